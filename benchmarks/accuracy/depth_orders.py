"""What the order of removing blocks costs in accuracy, for networks in stages.

    python -m benchmarks.accuracy.depth_orders --data cifar10-jpeg.tar.xz

trains `cifar10-resnet` at three widths and all depths (21 sub-models) for an epoch in bfloat16,
once for each order, under the rule that trains every depth of a width; then reads the scores and
writes benchmarks/results/depth_orders.json. One thread takes about ten minutes. With --runs FOLDER
finished runs are read instead. What each order saves in time is in `shared_prefixes.py`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from benchmarks.harness import write

ORDERS = ("late-first", "balanced")
SETTINGS = (
    "train.epochs=1",
    "model.init=stock",
    "train.precision=bf16",
    "train.rule=sandwich-sum",
    "train.num_random=1",
    "train.distill=false",
    "train.smallest_first=0",
    "train.crossing_lr=1",
    "space.width=[0.25, 0.5, 1.0]",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="CIFAR-10: a folder or a tar")
    parser.add_argument("--runs", type=Path, default=Path("runs/depth-orders"))
    options = parser.parse_args()
    rows = []
    for order in ORDERS:
        run = options.runs / order
        if not (run / "frontier.json").is_file():
            train(run, options.data, (*SETTINGS, f"model.depth_order={order}"))
        rows.append({"order": order, **read(run)})
    result = {"runs": rows}
    write("depth_orders", result)
    print(table(result))


def train(run: Path, data: Path | None, settings: tuple[str, ...]) -> None:
    words = ["sortednet", "train", "--preset", "cifar10-resnet", "--out", str(run)]
    for setting in settings:
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
        "largest": scores[-1],
        "smallest": scores[0],
        "smallest_macs": table["submodels"][0]["macs"],
        "mean": sum(scores) / len(scores),
        "scores": {
            f"w{row['axes']['width']:g}-d{row['axes']['depth']}": score
            for row, score in zip(table["submodels"], scores, strict=True)
        },
    }


def table(result: dict[str, Any]) -> str:
    """Test accuracy in percent, a row for each training."""
    rows = [
        "| depth order | largest | mean of 21 | smallest | its multiply-adds |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows += [
        f"| {run['order']} | {run['largest']:.1f} | {run['mean']:.1f} | {run['smallest']:.1f}"
        f" | {run['smallest_macs'] / 1e6:.2f} M |"
        for run in result["runs"]
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    main()
