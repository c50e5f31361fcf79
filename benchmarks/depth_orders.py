"""What the order of removing blocks costs in accuracy and saves in time, for networks in stages.

    python benchmarks/depth_orders.py --data cifar10-jpeg.tar.xz

trains `cifar10-resnet` for three epochs in bfloat16 through the command line, once for each order
and rule (one thread, one after another: hours), reads the scores of its 49 sub-models, and writes
benchmarks/results/depth_orders.json. With --runs FOLDER finished runs are read instead.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from harness import write

ORDERS = ("late-first", "balanced")
RULES = {
    "sandwich": ("train.rule=sandwich",),
    "sandwich-sum": ("train.rule=sandwich-sum", "train.distill=false"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="CIFAR-10: a folder or a tar")
    parser.add_argument("--runs", type=Path, default=Path("runs/depth-orders"))
    options = parser.parse_args()
    rows = []
    for rule, settings in RULES.items():
        for order in ORDERS:
            run = options.runs / f"{order}-{rule}"
            if not (run / "frontier.json").is_file():
                train(run, options.data, (*settings, f"model.depth_order={order}"))
            rows.append({"rule": rule, "order": order, **read(run)})
    result = {"runs": rows}
    write("depth_orders", result)
    print(table(result))


def train(run: Path, data: Path | None, settings: tuple[str, ...]) -> None:
    words = ["sortednet", "train", "--preset", "cifar10-resnet", "--out", str(run)]
    for setting in ("train.epochs=3", "train.precision=bf16", *settings):
        words += ["--set", setting]
    subprocess.run([*words, *(["--data", str(data)] if data else [])], check=True)


def read(run: Path) -> dict[str, Any]:
    """Scores of a finished run, and how long it took."""
    manifest = json.loads((run / "run.json").read_text(encoding="utf-8"))
    table = json.loads((run / "frontier.json").read_text(encoding="utf-8"))
    scores = [100 * row["metrics"]["test"]["accuracy"] for row in table["submodels"]]
    spec = tomllib.loads((run / "spec.toml").read_text(encoding="utf-8"))
    return {
        "data": manifest["data"]["source"],
        "epochs": spec["train"]["epochs"],
        "seed": spec["train"].get("seed", 0),
        "distill": spec["train"].get("distill", False),
        "largest": scores[-1],
        "smallest": scores[0],
        "mean": sum(scores) / len(scores),
        "train_seconds": manifest["train_seconds"],
    }


def table(result: dict[str, Any]) -> str:
    """Test accuracy in percent, a row for each training."""
    rows = [
        "| rule | depth order | largest | mean of 49 | smallest | training, s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rows += [
        f"| {run['rule']}{', distilled' if run['distill'] else ''} | {run['order']}"
        f" | {run['largest']:.1f} | {run['mean']:.1f} | {run['smallest']:.1f}"
        f" | {run['train_seconds']:.0f} |"
        for run in result["runs"]
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    main()
