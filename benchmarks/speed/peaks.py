"""The most memory that each preset's training and scoring take, by the allocator.

    python -m benchmarks.speed.peaks

For every preset that fits a small machine: a few updates on random batches of its own size, then
the scores of its largest and its smallest sub-model, in a process of its own with the allocator as
it is (`default`) and as the command line sets it (`kept`), in turn. Writes
benchmarks/results/peaks.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.speed.allocator import VARIANTS, clean, run
from sortednet_cli import allocator
from sortednet_cli.spec import presets

TOO_LARGE = ("alpaca-llama2-13b",)
SMALL = {"imagenet-resnet50": 32, "imagenet-mobilenetv2": 32, "glue-bert-large": 4}
"""Batches of large networks, whose own would take a machine of 64 GB."""


def main() -> None:
    from benchmarks.harness import positive, write

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--updates", type=positive, default=6)
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--only", nargs="+", default=[""], help="presets whose names hold a word")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/peaks.json")
    parser.add_argument("--preset", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.preset:
        train_and_score(options.preset, options.updates)
        return
    names = [name for name in presets.names() if name not in TOO_LARGE]
    chosen = [name for name in names if any(word in name for word in options.only)]
    cases = [measure(name, options) for name in chosen]
    result = {"threads": options.threads, "updates": options.updates, "cases": cases}
    write("peaks", result, options.out)
    print(table(result))


def measure(preset: str, options: argparse.Namespace) -> dict[str, Any]:
    words = [
        sys.executable,
        "-m",
        "benchmarks.speed.peaks",
        "--preset",
        preset,
        "--updates",
        str(options.updates),
    ]
    peaks: dict[str, list[float]] = {"default": [], "kept": []}
    for _ in range(options.repeats):
        for name, found in peaks.items():
            environment = clean(Path.home(), options.threads) | VARIANTS[name]
            found.append(run(words, environment)["peak_mib"])
    return {"preset": preset, "batch_size": SMALL.get(preset), "peak_mib": peaks}


def train_and_score(preset: str, updates: int) -> None:
    """What a training does, on random data."""
    allocator.keep_freed_memory()
    import torch

    from benchmarks.harness import network_of, random_part
    from benchmarks.speed.engine_cost import Batches
    from sortednet_cli.engine.evaluation.batch_sizes import BatchSizes
    from sortednet_cli.engine.evaluation.score import score_parts
    from sortednet_cli.engine.sources.root import task_of
    from sortednet_cli.engine.training.loop import Position, Trainer
    from sortednet_cli.engine.training.optimizer import RootOptimizer
    from sortednet_cli.nesting import ignore_layout_warning
    from sortednet_cli.rules import make_rule

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    ignore_layout_warning()
    settings = [f"train.batch_size={SMALL[preset]}"] if preset in SMALL else []
    spec, inputs, network = network_of(preset, settings)
    train = spec.train.model_copy(update={"updates": updates, "epochs": None})
    data: Any = Batches(random_part(inputs, 2, train.batch_size, network.device))
    optimizer, rule = RootOptimizer(network, train), make_rule(train, network.space)
    trainer = Trainer(network, task_of(inputs), rule, data, optimizer, train)
    for _ in trainer.updates(Position(), lambda: False):
        pass
    allocator.release()
    at_once = BatchSizes.of(network, inputs).scored
    part = random_part(inputs, 2, at_once, network.device)
    for submodel in (network.space.largest, network.space.smallest):
        score_parts(network, [submodel], {"test": part}, task_of(inputs), at_once)
    allocator.release()


def table(result: dict[str, Any]) -> str:
    rows = ["| preset | default | kept | kept / default |", "| --- | --- | --- | --- |"]
    for case in result["cases"]:
        default, kept = (statistics.median(case["peak_mib"][name]) for name in ("default", "kept"))
        rows.append(
            f"| {case['preset']} | {default:,.0f} MiB | {kept:,.0f} MiB | {kept / default:.2f} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    from benchmarks.harness import tell

    tell(main)
