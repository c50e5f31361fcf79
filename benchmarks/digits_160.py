"""160 sub-models of one training against the largest of them trained alone.

    python benchmarks/digits_160.py [--out benchmarks/results/digits_160.json]

Both sides use the preset `digits-resnet`, one fixed split, the same number of training
samples and the same grid of learning rates. For each side the learning rate is the one with
the best validation accuracy of the largest sub-model at the first seed; then every seed is
trained with it. The figure is, for each seed, the test accuracy of each of the 160 over that
of the largest trained alone. No sub-model is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

GRID = (0.03, 0.1, 0.3)
SEEDS = (0, 1, 2)
ALONE = ["train.rule=single", "space.width=[1.0]", "space.depth=[8]"]

Run = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).parent / "results" / "digits_160.json"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        nested = train_side(Path(folder), "nested", [])
        alone = train_side(Path(folder), "alone", ALONE)
    result = compare(nested, alone)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


def train_side(folder: Path, side: str, settings: list[str]) -> list[Run]:
    """Tune the learning rate at the first seed, then train every seed with it."""
    first = {lr: train(folder, side, lr, SEEDS[0], settings) for lr in GRID}
    best = max(GRID, key=lambda lr: largest(first[lr])["validation"]["accuracy"])
    others = [train(folder, side, best, seed, settings) for seed in SEEDS[1:]]
    tuning = [run for lr, run in first.items() if lr != best]
    return [*({**run, "tuning_only": True} for run in tuning), first[best], *others]


def train(folder: Path, side: str, lr: float, seed: int, settings: list[str]) -> Run:
    """Train one run through the command line and read its table."""
    out = folder / f"{side}-{lr}-{seed}"
    sets = [*settings, f"train.lr={lr}", f"train.seed={seed}"]
    command = ["sortednet", "train", "--preset", "digits-resnet", "--quiet", "--out", str(out)]
    command += [word for setting in sets for word in ("--set", setting)]
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - start
    rows = json.loads((out / "frontier.json").read_text())["submodels"]
    manifest = json.loads((out / "run.json").read_text())
    shown = " ".join(command).replace(str(out), out.name)
    print(f"{out.name}: largest {largest({'rows': rows})['test']['accuracy']:.4f} {seconds:.0f} s")
    return {
        "lr": lr,
        "seed": seed,
        "command": shown,
        "wall_seconds": seconds,
        "train_seconds": manifest["train_seconds"],
        "versions": manifest["versions"],
        "rows": rows,
    }


def largest(run: Run) -> dict[str, dict[str, float]]:
    metrics: dict[str, dict[str, float]] = max(run["rows"], key=lambda row: row["macs"])["metrics"]
    return metrics


def compare(nested: list[Run], alone: list[Run]) -> dict[str, Any]:
    """Put each nested run beside the lone network of its seed."""
    references = {run["seed"]: run for run in alone if not run.get("tuning_only")}
    seeds = []
    for run in nested:
        if run.get("tuning_only"):
            continue
        reference = largest(references[run["seed"]])["test"]["accuracy"]
        scores = [row["metrics"]["test"]["accuracy"] for row in run["rows"]]
        seeds.append(
            {
                "seed": run["seed"],
                "alone": reference,
                "largest": largest(run)["test"]["accuracy"],
                "mean": sum(scores) / len(scores),
                "worst": min(scores),
                "worst_percent_of_alone": 100 * min(scores) / reference,
                "mean_percent_of_alone": 100 * sum(scores) / len(scores) / reference,
            }
        )
    macs = [row["macs"] for row in nested[0]["rows"]]
    return {
        "data": "digits",
        "submodels": len(macs),
        "macs_smallest": min(macs),
        "macs_largest": max(macs),
        "macs_percent": 100 * min(macs) / max(macs),
        "lr_nested": next(r["lr"] for r in nested if not r.get("tuning_only")),
        "lr_alone": next(r["lr"] for r in alone if not r.get("tuning_only")),
        "worst_percent_of_alone": min(seed["worst_percent_of_alone"] for seed in seeds),
        "seeds": seeds,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "command": "python benchmarks/digits_160.py",
        "runs": {"nested": nested, "alone": alone},
    }


def table(result: dict[str, Any]) -> str:
    """The figure and its parts as Markdown, accuracies in percent of the test part."""
    lines = [
        f"{result['submodels']} sub-models, the smallest with {result['macs_percent']:.1f}% of the"
        f" largest's multiply-adds; worst of all: **{result['worst_percent_of_alone']:.2f}%** of"
        " the largest trained alone.",
        "",
        "| seed | largest alone | nested largest | mean of 160 | worst of 160 | worst / alone |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for seed in result["seeds"]:
        cells = [f"{100 * seed[key]:.2f}" for key in ("alone", "largest", "mean", "worst")]
        ratio = f"{seed['worst_percent_of_alone']:.2f}%"
        lines.append(f"| {seed['seed']} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
