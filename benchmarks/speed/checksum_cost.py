"""What checksums add to writing and reading a large file of tensors.

    python -m benchmarks.speed.checksum_cost [--folder FOLDER]

A gibibyte of random float32, from memory to disk and from the page cache back, in turn. Writes
benchmarks/results/checksum_cost.json.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import in_turn, positive, ratio, write
from sortednet_cli.storage.checks import FileCheck
from sortednet_cli.storage.tensor_writer import write_tensors
from sortednet_cli.storage.tensors import read_tensors

NUM_BYTES = 1 << 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where there is room for a gibibyte")
    parser.add_argument("--repeats", type=positive, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        result = measure(Path(folder) / "large.safetensors", options.repeats)
    write("checksum_cost", result)
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Seconds for a gibibyte, and the share of the checksum in writing and loading."""
    median = {name: statistics.median(values) for name, values in result["seconds"].items()}
    rows = [
        "| a gibibyte | seconds | checksum / this |",
        "| --- | --- | --- |",
        f"| checksum | {median['checksum']:.2f} | |",
    ]
    rows += [
        f"| {name} | {median[name]:.2f} | {result[f'checksum_of_{name}']:.2f} |"
        for name in ("writing", "loading")
    ]
    return "\n".join(rows)


def measure(path: Path, repeats: int) -> dict[str, Any]:
    tensors = {str(i): torch.randn(NUM_BYTES // 64) for i in range(16)}
    work = {
        "writing": lambda: write_tensors(path, tensors),
        "checksum": lambda: FileCheck.of(path),
        "loading": lambda: [tensor.clone() for tensor in read_tensors(path).values()],
    }
    seconds = in_turn(work, repeats, warmup=1)
    return {
        "algorithm": hashlib.sha256().name,
        "num_bytes": NUM_BYTES,
        "seconds": seconds,
        "checksum_of_writing": ratio(seconds, "checksum", "writing"),
        "checksum_of_loading": ratio(seconds, "checksum", "loading"),
    }


if __name__ == "__main__":
    main()
