"""The 49 sub-models of one `cifar10-resnet` training: accuracy by width and depth.

    python benchmarks/cifar10_resnet.py --data cifar10-jpeg.tar.xz --epochs 10

trains through the command line, writes benchmarks/results/cifar10_resnet.json and prints its
tables as Markdown. With --run RUN a finished run is read instead of trained.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tomllib
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "cifar10_resnet.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="CIFAR-10: a folder or a tar")
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--run", type=Path, help="a finished run to read")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--note", default="", help="what else the wall time must be quoted with")
    options = parser.parse_args()
    run = options.run or train(options.data, options.epochs)
    result = {**read(run), "note": options.note}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


def train(data: Path | None, epochs: float) -> Path:
    """Train the preset and return the run's folder."""
    command = [
        "sortednet",
        "train",
        "--preset",
        "cifar10-resnet",
        "--set",
        f"train.epochs={epochs}",
    ]
    if data is not None:
        command += ["--data", str(data)]
    return Path(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    )


def read(run: Path) -> dict[str, Any]:
    """Collect what the tables and their reader need from a run's files."""
    manifest = json.loads((run / "run.json").read_text())
    spec = tomllib.loads((run / "spec.toml").read_text())
    return {
        "data": manifest["data"]["source"],
        "epochs": spec["train"]["epochs"],
        "seed": spec["train"]["seed"],
        "rule": spec["train"]["rule"],
        "train_seconds": manifest["train_seconds"],
        "versions": manifest["versions"],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "submodels": json.loads((run / "frontier.json").read_text())["submodels"],
    }


def table(result: dict[str, Any]) -> str:
    """Test accuracy in percent by width (rows) and depth (columns), as Markdown."""
    rows = result["submodels"]
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


if __name__ == "__main__":
    main()
