"""Cutting a sub-model out of a checkpoint that is larger than memory should be asked to hold.

    python -m benchmarks.speed.big_extract --folder /somewhere/with/room

Makes a sharded LLaMA checkpoint of random bfloat16 values there (12 GB, kept for the next time),
then, in turn and several times: cuts width 0.5 and half the layers out of it through the command
line, and copies as many bytes as that reads and writes, each in a process of its own and each
flushed to the disk. Prints the peak of resident memory over that after imports, the speed as a
multiple of copying, and the time to plan. Writes benchmarks/results/big_extract.json.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import positive, write
from sortednet_cli.engine.sources.opening import open_source
from sortednet_cli.families.transformers.complete import complete_config
from sortednet_cli.nesting import build_skeleton, stored_tensors
from sortednet_cli.storage.files import write_json
from sortednet_cli.storage.tensor_writer import TensorEntry, write_shards

GIGABYTE = 1_000_000_000
SHARD_BYTES = 4 * GIGABYTE
CONFIG = {
    "hidden_size": 4096,
    "num_hidden_layers": 29,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "intermediate_size": 11008,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
FACTS = {
    "vocab_size": 32000,
    "max_length": 2048,
    "classes": (),
    "pad_id": 0,
    "bos_id": 1,
    "eos_id": 2,
}
"""LLaMA-7B with fewer layers: 29 of 32."""

WIDTH, DEPTH = 0.5, 14


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="needs 17 GB of room")
    parser.add_argument("--repeats", type=positive, default=3)
    options = parser.parse_args()
    checkpoint, out = options.folder / "checkpoint", options.folder / "cut"
    if not (checkpoint / "config.json").is_file():
        make_checkpoint(checkpoint)
    cuts, copies = [], []
    for _ in range(options.repeats):
        shutil.rmtree(out, ignore_errors=True)
        cuts.append(in_process(_cut, checkpoint, out))
        # Reads of a copy are as many as its writes: half of all that was read and written each.
        amount = (cuts[-1]["bytes_read"] + cuts[-1]["bytes_written"]) // 2
        copies.append(in_process(_copy, checkpoint, options.folder / "copy", amount))
    result = {
        "checkpoint_bytes": sum(file.stat().st_size for file in checkpoint.glob("*.safetensors")),
        "artifact_bytes": sum(file.stat().st_size for file in out.glob("model*.safetensors")),
        "shards": len(list(out.glob("model*.safetensors"))),
        "cuts": cuts,
        "copies": copies,
        "plan_seconds": in_process(_plan, checkpoint),
        "peak_mib": max(cut["peak_mib"] for cut in cuts),
        "speed_of_copying": statistics.median(
            copy / cut["seconds"] for cut, copy in zip(cuts, copies, strict=True)
        ),
    }
    shutil.rmtree(out)
    write("big_extract", result)
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """What the promise is about, a line for each figure."""
    return (
        f"{result['checkpoint_bytes'] / GIGABYTE:.1f} GB to"
        f" {result['artifact_bytes'] / GIGABYTE:.2f} GB in {result['shards']} files:"
        f" {result['peak_mib']:.0f} MiB of memory beyond what the imports take,"
        f" at {result['speed_of_copying']:.2f} times the speed of copying,"
        f" planned in {result['plan_seconds']:.1f} s"
    )


def make_checkpoint(folder: Path) -> None:
    """Write a checkpoint in the stock layout, one random tensor at a time."""
    from sortednet_cli.families import Root, open_family

    folder.mkdir(parents=True)
    config = complete_config("llama", "causal-lm", CONFIG, FACTS)
    family = open_family(Root("llama", config, "prefix"))
    generator = torch.Generator().manual_seed(0)

    def entry(name: str, shape: tuple[int, ...]) -> TensorEntry:
        def blocks() -> list[torch.Tensor]:
            return [(torch.randn(shape, generator=generator) * 0.02).bfloat16()]

        return TensorEntry(name, torch.bfloat16, shape, blocks)

    tensors = stored_tensors(build_skeleton(family, config))
    entries = [entry(name, tuple(tensor.shape)) for name, tensor in tensors.items()]
    write_shards(folder / "model.safetensors", entries, SHARD_BYTES)
    write_json(folder / "config.json", {**config, "dtype": "bfloat16"})


def in_process(work: Any, *arguments: Any) -> Any:
    """Run something in a fresh process, for its memory and its bytes."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def _cut(checkpoint: Path, out: Path) -> dict[str, Any]:
    import transformers

    from sortednet_cli.cli.main import run

    _ = transformers.LlamaForCausalLM  # loaded on first use
    before, moved = memory_mib("VmRSS"), bytes_moved()
    Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    words = ["extract", checkpoint, "--width", WIDTH, "--depth", DEPTH, "--out", out]
    code = run([str(word) for word in [*words, "--max-shard-size", "500M", "--quiet"]])
    seconds = time.perf_counter() - start
    assert code == 0
    after = bytes_moved()
    return {
        "seconds": seconds,
        "peak_mib": memory_mib("VmHWM") - before,
        "bytes_read": logical_reads(checkpoint, out),
        "bytes_written": after["wchar"] - moved["wchar"],
    }


def logical_reads(checkpoint: Path, out: Path) -> int:
    """Bytes of tensors read: each slice to write it, then both sides to compare them.

    Files are mapped, so the kernel does not count them.
    """
    written = sum(file.stat().st_size for file in out.glob("model*.safetensors"))
    return 3 * written


def _copy(checkpoint: Path, target: Path, amount: int) -> float:
    start = time.perf_counter()
    left = amount
    with target.open("wb") as out:
        for file in sorted(checkpoint.glob("*.safetensors")):
            with file.open("rb") as source:
                while left and (block := source.read(min(left, 1 << 24))):
                    out.write(block)
                    left -= len(block)
        out.flush()
        os.fsync(out.fileno())
    seconds = time.perf_counter() - start
    target.unlink()
    return seconds


def _plan(checkpoint: Path) -> float:
    start = time.perf_counter()
    source = open_source(checkpoint)
    source.plan(source.space.resolve({"width": WIDTH, "depth": DEPTH}))
    return time.perf_counter() - start


def memory_mib(key: str) -> float:
    """`VmRSS`, resident now, or `VmHWM`, its peak (proc_pid_status(5))."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = [int(line.split()[1]) for line in lines if line.startswith(f"{key}:")]
    return kib[0] / 1024


def bytes_moved() -> dict[str, int]:
    """What the process has read and written so far (proc_pid_io(5))."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return {key: int(value) for key, value in (line.split(": ") for line in lines)}


if __name__ == "__main__":
    main()
