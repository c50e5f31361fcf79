"""What an update of the rule `sum` costs beside ordinary training of the full model alone.

    python benchmarks/soft_cost.py

Both train the `pydoc-llama` preset's network on the same batches in one process, in turn; the
ratio of their times stands beside the ratio of their multiply-adds (the full model plus a head
for every further exit). Writes benchmarks/results/soft_cost.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from sortednet_cli.engine.fit import Fit, versions
from sortednet_cli.engine.train import Trainer, Update
from sortednet_cli.nesting import cost_of
from sortednet_cli.spec import load_preset

RESULTS = Path(__file__).parent / "results" / "soft_cost.json"
RULES = ("sum", "single")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="A.B=V")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = measure(options.repeats, options.set)
    result["threads"] = options.threads
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Both ratios, and the one over the other, in a line."""
    seconds, macs = result["time_ratio"], result["macs_ratio"]
    return (
        f"time: {seconds:.3f}; multiply-adds: {macs:.3f};"
        f" time / multiply-adds: {seconds / macs:.3f}"
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
    return Fit.create(path, spec, torch.device("cpu"))._prepare()[0]


def updates(made: Trainer) -> Iterator[Update]:
    return made.updates(0, lambda: False)


def multiply_adds(made: Trainer) -> float:
    """The full model plus a head for every further exit, over the full model."""
    network, inputs = made.network, made.data.format
    full = cost_of(
        network.family, network.space.largest, inputs.random_inputs, inputs.num_units
    ).macs
    config = network.family.root.config
    head = config["hidden_size"] * config["vocab_size"]
    return (full + (len(network.space) - 1) * head) / full


if __name__ == "__main__":
    main()
