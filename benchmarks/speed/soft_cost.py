"""What an update of the rule `sum` costs beside ordinary training of the full model alone.

    python -m benchmarks.speed.soft_cost

Both train the `pydoc-llama` preset's network on the same batches in one process, in turn; the
ratio of their times stands beside the ratio of their multiply-adds (the full model plus a head
for every further exit). Then each trains in processes of its own, for the peak of its resident
memory above what the process held once its imports were done: as it is, and with an allocator that
returns every large tensor at once, so that what fragments is not counted. Writes
benchmarks/results/soft_cost.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.harness import RESULTS
from sortednet_cli.engine.training.loop import Position, Trainer, Update
from sortednet_cli.engine.training.start import create_session
from sortednet_cli.machine.versions import versions
from sortednet_cli.nesting import cost_of
from sortednet_cli.spec import load_preset

RULES = ("sum", "single")
ALLOCATORS = {
    "resident": {},
    "live": {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"},
}
"""Settings of glibc (mallopt(3)) under which the peak of memory is read."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--updates", type=int, default=5, help="for the peak of memory")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=V")
    parser.add_argument("--out", type=Path, default=RESULTS / "soft_cost.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = measure(options.repeats, options.set)
    result["threads"] = options.threads
    result["peak_mib"] = {
        kind: {rule: peak_mib(rule, kind, options) for rule in RULES} for kind in ALLOCATORS
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Every ratio, `sum` over `single`."""
    seconds, macs = result["time_ratio"], result["macs_ratio"]
    peaks = {kind: peak["sum"] / peak["single"] for kind, peak in result["peak_mib"].items()}
    return (
        f"time: {seconds:.3f}; multiply-adds: {macs:.3f};"
        f" time / multiply-adds: {seconds / macs:.3f}\n"
        f"peak memory: {peaks['resident']:.3f} resident, {peaks['live']:.3f} live"
    )


def measure(repeats: int, overrides: list[str]) -> dict[str, Any]:
    """Time both in turn; every pair of neighbours gives one ratio."""
    with tempfile.TemporaryDirectory() as folder:
        trainers = {rule: trainer(Path(folder) / rule, rule, overrides) for rule in RULES}
        running = {rule: updates(made) for rule, made in trainers.items()}
        seconds: dict[str, list[float]] = {rule: [] for rule in RULES}
        for repeat in range(repeats + 3):
            for rule in RULES:
                start = time.perf_counter()
                next(running[rule])
                if repeat >= 3:
                    seconds[rule].append(time.perf_counter() - start)
        macs = multiply_adds(trainers["sum"])
    ratios = [a / b for a, b in zip(seconds["sum"], seconds["single"], strict=True)]
    return {
        "time_ratio": statistics.median(ratios),
        "macs_ratio": macs,
        "seconds": seconds,
        "overrides": overrides,
        "machine": platform.processor() or platform.machine(),
        "versions": versions(),
    }


def trainer(path: Path, rule: str, overrides: list[str]) -> Trainer:
    spec = load_preset("pydoc-llama", [f"train.rule={rule}", "train.updates=1000", *overrides])
    return create_session(path, spec, torch.device("cpu")).prepare()[0]


def updates(made: Trainer) -> Iterator[Update]:
    return made.updates(Position(), lambda: False)


def peak_mib(rule: str, allocator: str, options: argparse.Namespace) -> float:
    """Peak MiB of some updates in a fresh process, above what its imports took."""
    words = (rule, options.set, options.threads, options.updates)
    with (
        mock.patch.dict(os.environ, ALLOCATORS[allocator]),
        multiprocessing.get_context("spawn").Pool(1) as pool,
    ):
        return float(pool.apply(_peak_mib, words))


def _peak_mib(rule: str, overrides: list[str], threads: int, count: int) -> float:
    torch.set_num_threads(threads)
    torch.nn.Linear(8, 8)(torch.ones(8, 8)).sum().backward()  # kernels load on first use
    before = memory_mib("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        running = updates(trainer(Path(folder) / rule, rule, overrides))
        # The peak so far belongs to the tokenizer's training; the kernel forgets it here.
        Path("/proc/self/clear_refs").write_text("5")
        for _ in range(count):
            next(running)
        return memory_mib("VmHWM") - before


def memory_mib(key: str) -> float:
    """`VmRSS`, resident now, or `VmHWM`, its peak (proc_pid_status(5))."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = [int(line.split()[1]) for line in lines if line.startswith(f"{key}:")]
    return kib[0] / 1024


def multiply_adds(made: Trainer) -> float:
    """The full model plus a head for every further exit, over the full model."""
    network, inputs = made.network, made.data.format
    full = cost_of(
        network.family, network.space.largest, inputs.random_inputs, inputs.num_units
    ).macs
    config = network.family.root.config
    head = int(config["hidden_size"] * config["vocab_size"])
    return (full + (len(network.space) - 1) * head) / full


if __name__ == "__main__":
    main()
