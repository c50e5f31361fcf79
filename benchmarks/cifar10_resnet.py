"""The 49 sub-models of one `cifar10-resnet` training: accuracy by width and depth.

    python benchmarks/cifar10_resnet.py --data cifar10-jpeg.tar.xz --set train.epochs=28

trains through the command line, writes benchmarks/results/cifar10_resnet.json and prints its
table as Markdown. The training is kept under --work; `--run RUN` reads any finished one.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

from harness import RESULTS, write
from trainings import Training, add_options, read_run, trainer_of


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
        training = Training("cifar10-resnet", "cifar10-resnet", tuple(options.set))
        trainer.results([training])
        run = trainer.folder(training)
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


if __name__ == "__main__":
    main()
