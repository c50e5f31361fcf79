"""The 49 sub-models of one `cifar10-resnet` training: accuracy by width and depth.

    python -m benchmarks.accuracy.cifar10_resnet --data cifar10-jpeg.tar.xz --set train.epochs=28

trains through the command line, writes benchmarks/results/cifar10_resnet.json and prints its
table as Markdown. The training is kept under --work; `--run RUN` reads any finished one.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

from benchmarks.accuracy.rules import STOCK, cost_per_sample
from benchmarks.accuracy.trainings import (
    ALONE,
    Training,
    add_options,
    largest,
    mean_score,
    read_run,
    score,
    smallest,
    trainer_of,
)
from benchmarks.harness import RESULTS, tell, write
from sortednet_cli import load_run

PRESET = "cifar10-resnet"
WORDS = {"distill": "distilled", "smallest_first": "smallest first"}
COSTS = ("distill", "num_random", "smallest_first")
"""What sets these trainings apart, and which of it changes an update's multiply-adds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", action="append", default=[], help="a setting of the training")
    parser.add_argument("--run", type=Path, help="a finished run to read")
    parser.add_argument("--out", type=Path, default=RESULTS / "cifar10_resnet.json")
    add_options(parser)
    options = parser.parse_args()
    run = options.run
    if run is None:
        trainer = trainer_of(options)
        training = Training(PRESET, PRESET, tuple(options.set))
        trainer.results([training])
        run = trainer.folder(training)
    run = load_run(run).path  # one message, unless it is a finished one
    spec = tomllib.loads((run / "spec.toml").read_text(encoding="utf-8"))
    result = {"train": spec["train"], "init": spec["model"]["init"], **read_run(run)}
    write(options.out.stem, result, options.out)
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Test accuracy in percent by width (rows) and depth (columns), as Markdown."""
    rows = result["rows"]
    cells = {(row["axes"]["width"], row["axes"]["depth"]): row for row in rows}
    widths = sorted({width for width, _ in cells})
    depths = sorted({depth for _, depth in cells})
    lines = ["| width | " + " | ".join(f"depth {d}" for d in depths) + " | M multiply-adds |"]
    lines.append("| --- |" + " --- |" * (len(depths) + 1))
    for width in widths:
        scores = [100 * cells[width, d]["metrics"]["test"]["accuracy"] for d in depths]
        macs = [cells[width, d]["macs"] / 1e6 for d in (depths[0], depths[-1])]
        shown = " | ".join(f"{score:.1f}" for score in scores)
        lines.append(f"| {width:g} | {shown} | {macs[0]:.2f} to {macs[1]:.2f} |")
    return "\n".join(lines)


def compared(*results: dict[str, Any]) -> str:
    """Of several trainings their work, in epochs of the largest alone, and what it came to."""
    lines = [
        "| rule | first weights | epochs | work | largest | mean of all | smallest | seconds |",
        "|" + " --- |" * 8,
    ]
    for result in results:
        train = result["train"]
        named = [f"train.{key}={str(train.get(key, 0)).lower()}" for key in COSTS]
        settings = (*STOCK, f"train.rule={train['rule']}", *named)
        work = train["epochs"] * cost_per_sample(PRESET, settings) / cost_per_sample(PRESET, ALONE)
        words = [train["rule"], *(word for key, word in WORDS.items() if train.get(key))]
        if train.get("crossing_lr", 1) < 1:
            words.append("slow crossing")
        scores = [score(largest(result), "test"), mean_score(result, "test")]
        scores.append(score(smallest(result), "test"))
        cells = [", ".join(words), result["init"], f"{train['epochs']:g}", f"{work:.1f}"]
        cells += [f"{100 * value:.1f}" for value in scores]
        cells.append(f"{result['train_seconds']:,.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    tell(main)
