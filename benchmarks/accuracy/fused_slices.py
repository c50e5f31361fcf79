"""Whether it matters that a sub-model's queries, keys and values are slices of the root's own.

    python -m benchmarks.accuracy.fused_slices --data cifar10-jpeg.tar.xz

trains a ViT of timm, whose `qkv` holds three tensors, three times on the same samples: nested, with
slices of each part; nested, with the first rows of the whole, which mix queries and keys; and its
largest sub-model alone. Test accuracy of every sub-model.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from benchmarks.accuracy.trainings import ALONE, Training, add_options, largest, score, trainer_of
from benchmarks.harness import RESULTS, tell, write

HERE = Path(__file__).parent
PARTS, LEADING = "slices of each part", "first rows of the whole"
SPECS = {PARTS: HERE / "cifar10-vit.toml", LEADING: HERE / "cifar10-vit-leading.toml"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=2400)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--out", type=Path, default=RESULTS / "fused_slices.json")
    add_options(parser)
    options = parser.parse_args()
    os.environ["SORTEDNET_ALLOW_FACTORY"] = "timm:create_model"  # so that a resumed run may, too
    same = (f"train.updates={options.updates}", f"train.lr={options.lr:g}")
    trainings = [
        *(
            Training(f"vit-{path.stem}", str(path.relative_to(Path.cwd())), same)
            for path in SPECS.values()
        ),
        Training("vit-alone", str(SPECS[PARTS].relative_to(Path.cwd())), (*same, *ALONE)),
    ]
    *nested, alone = trainer_of(options).results(trainings)
    result = {
        "data": alone["data"],
        "updates": alone["updates"],
        "settings": list(same),
        "rows": [
            {
                "name": row["name"],
                "axes": row["axes"],
                "macs": row["macs"],
                **{
                    slices: score(own, "test")
                    for slices, run in zip(SPECS, nested, strict=True)
                    for own in run["rows"]
                    if own["name"] == row["name"]
                },
            }
            for row in nested[0]["rows"]
        ],
        "alone": score(largest(alone), "test"),
        "train_seconds": [run["train_seconds"] for run in (*nested, alone)],
    }
    write(options.out.stem, result, options.out)
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Test accuracy in percent of every sub-model, and of the largest alone."""
    lines = [
        f"| width | depth | M multiply-adds | {PARTS} | {LEADING} | alone |",
        "|" + " --- |" * 6,
    ]
    most = max(row["macs"] for row in result["rows"])
    for row in result["rows"]:
        alone = f"{100 * result['alone']:.1f}" if row["macs"] == most else ""
        lines.append(
            f"| {row['axes']['width']:g} | {row['axes']['depth']} | {row['macs'] / 1e6:.1f}"
            f" | {100 * row[PARTS]:.1f} | {100 * row[LEADING]:.1f} | {alone} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    tell(main)
