"""What an update of the rule `sum` costs beside ordinary training of the full model alone.

    python -m benchmarks.speed.soft_cost
    python -m benchmarks.speed.soft_cost --preset gsm8k-smollm2 --set data.path=gsm8k --repeats 3

Three trainings of a preset's network take the same batches in one process, in turn: the rule `sum`;
the largest sub-model alone, by this package (`single`); and the loop that an engineer would write
around transformers' model, which makes the logits of every position (`plain`). The ratio of their
times stands beside the ratio of their multiply-adds: body, and a head for every exit and position.
Before, each trains in processes of its own, for the peak of its resident memory above what the
process held once its imports were done: as it is, and with an allocator that returns every large
tensor at once, so that what fragments is not counted. Writes benchmarks/results/soft_cost.json,
and for another preset soft_cost_PRESET.json.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, cast
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.accuracy.trainings import ALONE
from benchmarks.harness import clock, tell, write
from sortednet_cli.engine.training.loop import Position, Trainer
from sortednet_cli.engine.training.start import create_session
from sortednet_cli.machine.precision import in_bf16
from sortednet_cli.nesting import cost_of
from sortednet_cli.spec import load_preset
from sortednet_cli.tasks.base import IGNORED

KINDS = ("sum", "single", "plain")
ALLOCATORS = {
    "resident": {},
    "live": {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"},
}
"""Settings of glibc (mallopt(3)) under which the peak of memory is read."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="pydoc-llama")
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--updates", type=int, default=5, help="for the peak of memory")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=V")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # The peaks come first: taking times holds three trainings in this process.
    peaks = {
        allocator: {kind: peak_mib(kind, allocator, options) for kind in KINDS}
        for allocator in ALLOCATORS
    }
    shared = {"preset": options.preset, "threads": options.threads}
    result = {**shared, **measure(options), "peak_mib": peaks}
    suffix = "" if options.preset == parser.get_default("preset") else f"_{options.preset}"
    write(f"soft_cost{suffix}".replace("-", "_"), result)
    print(table(result))


def table(*results: dict[str, Any]) -> str:
    """Markdown of every ratio of `sum` to the other two."""
    lines = [
        "| preset | beside | time | multiply-adds | time / multiply-adds | peak memory, resident"
        " | live |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    names = {"single": "the largest alone, here", "plain": "a plain loop"}
    for result in results:
        for kind, name in names.items():
            seconds, macs = result["time_ratios"][kind], result["macs_ratios"][kind]
            peaks = [peak["sum"] / peak[kind] for peak in result["peak_mib"].values()]
            cells = [f"`{result['preset']}`", name]
            cells += [f"{value:.3f}" for value in (seconds, macs, seconds / macs, *peaks)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Time all in turn; every round gives one ratio."""
    with tempfile.TemporaryDirectory() as folder:
        made = {kind: trainer(Path(folder) / kind, kind, options) for kind in KINDS}
        running = {kind: updates(kind, own) for kind, own in made.items()}
        seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for repeat in range(options.repeats + 2):
            for kind in KINDS:
                start = clock()
                next(running[kind])
                if repeat >= 2:
                    seconds[kind].append(clock() - start)
        macs = multiply_adds(made["sum"])
    others = KINDS[1:]
    ratios = {
        kind: [a / b for a, b in zip(seconds["sum"], seconds[kind], strict=True)] for kind in others
    }
    return {
        "time_ratios": {kind: statistics.median(ratios[kind]) for kind in others},
        "macs_ratios": {kind: macs["sum"] / macs[kind] for kind in others},
        "seconds": seconds,
    }


def trainer(path: Path, kind: str, options: argparse.Namespace) -> Trainer:
    """A training of the rule `sum`, or of the largest alone, whose batches `plain` takes too."""
    rule = ["train.rule=sum"] if kind == "sum" else ALONE
    settings = [*rule, "train.updates=1000", *options.set]
    spec = load_preset(options.preset, settings)
    return create_session(path, spec, torch.device("cpu")).prepare()[0]


def updates(kind: str, made: Trainer) -> Iterator[object]:
    if kind == "plain":
        return plain_updates(made)
    return made.updates(Position(), lambda: False)


def plain_updates(made: Trainer) -> Iterator[None]:
    """The updates of a plain loop on the batches of a training."""
    spec = made.spec
    model = LlamaForCausalLM(LlamaConfig(**made.network.family.root.config)).train()
    made.network.parameters.clear()  # the loop has weights of its own
    optimizer = torch.optim.AdamW(model.parameters(), spec.lr, weight_decay=spec.weight_decay)
    batches = made.data.training_batches(
        0, batch_size=spec.batch_size, seed=spec.seed, device=torch.device("cpu")
    )
    while True:
        for _ in range(spec.accumulate):
            inputs, targets = next(batches)
            with torch.autocast(
                "cpu", torch.bfloat16, enabled=in_bf16(spec.precision, torch.device("cpu"))
            ):
                logits: Tensor = model(**cast(dict[str, Tensor], inputs), use_cache=False).logits
            loss = functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
            (loss / spec.accumulate).backward()  # type: ignore[no-untyped-call]
        if spec.clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), spec.clip)
        optimizer.step()
        optimizer.zero_grad()
        yield


def peak_mib(kind: str, allocator: str, options: argparse.Namespace) -> float:
    """Peak MiB of some updates in a fresh process, above what its imports took."""
    with (
        mock.patch.dict(os.environ, ALLOCATORS[allocator]),
        multiprocessing.get_context("spawn").Pool(1) as pool,
    ):
        return float(pool.apply(_peak_mib, (kind, options)))


def _peak_mib(kind: str, options: argparse.Namespace) -> float:
    torch.set_num_threads(options.threads)
    torch.nn.Linear(8, 8)(torch.ones(8, 8)).sum().backward()  # kernels load on first use
    before = memory_mib("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        running = updates(kind, trainer(Path(folder) / kind, kind, options))
        for update in range(options.updates):
            # The peak so far belongs to the tokenizer's training, or to reading weights: the kernel
            # forgets it here. The first update makes the optimizer's state.
            if update == 1:
                Path("/proc/self/clear_refs").write_text("5")
            next(running)
        return memory_mib("VmHWM") - before


def memory_mib(key: str) -> float:
    """`VmRSS`, resident now, or `VmHWM`, its peak (proc_pid_status(5))."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = [int(line.split()[1]) for line in lines if line.startswith(f"{key}:")]
    return kib[0] / 1024


def multiply_adds(made: Trainer) -> dict[str, float]:
    """What a position costs on average: the body, and a head for each exit that is scored there."""
    network, inputs = made.network, made.data.format
    full = cost_of(
        network.family, network.space.largest, inputs.random_inputs, inputs.num_units
    ).macs
    config = network.family.root.config
    head = int(config["hidden_size"] * config["vocab_size"])
    scored = share_scored(made)
    body = full - head
    exits = {"sum": len(network.space) * scored, "single": scored, "plain": 1.0}
    return {kind: body + count * head for kind, count in exits.items()}


def share_scored(made: Trainer, count: int = 20) -> float:
    """The share of positions whose next token is scored, over some batches."""
    batches = made.data.training_batches(
        0, batch_size=made.spec.batch_size, seed=made.spec.seed, device=torch.device("cpu")
    )
    found = [(targets != IGNORED).flatten() for _, targets in islice(batches, count)]
    return float(torch.cat(found).float().mean())


if __name__ == "__main__":
    tell(main)
