"""The same number of sub-models, split between widths and depths in several ways.

    python -m benchmarks.accuracy.splits digits-resnet --split 20x8 --split 40x4 --split 32x5

`--split 20x8` trains the preset with twenty widths and eight depths, both spread evenly from the
preset's least to its greatest; a width is a whole number of channels of the widest stage, and where
there are too few of those, it begins below the least. All else is the preset's. Splits hold other
sub-models, so they are compared twice: over all that each holds, and over those that all hold.
"""

from __future__ import annotations

import argparse
import re
import statistics
from pathlib import Path
from typing import Any

from benchmarks.accuracy.rules import mean_and_spread
from benchmarks.accuracy.trainings import Result, Training, add_options, score, trainer_of
from benchmarks.harness import RESULTS, tell, write
from sortednet_cli.errors import RequestError
from sortednet_cli.spec import load_preset, presets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=presets.names())
    parser.add_argument("--split", action="append", required=True, help="WIDTHSxDEPTHS")
    parser.add_argument("--set", action="append", default=[], help="a setting of every training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    add_options(parser)
    options = parser.parse_args()
    trainer = trainer_of(options)

    def training(split: str, seed: int) -> Training:
        settings = (*options.set, *space_of(options.preset, split), f"train.seed={seed}")
        return Training(f"{options.preset}-split-{split}-{seed}", options.preset, settings)

    pairs = [(split, seed) for split in options.split for seed in options.seeds]
    runs = dict(zip(pairs, trainer.results(training(*pair) for pair in pairs), strict=True))
    result = {
        "preset": options.preset,
        "data": runs[pairs[0]]["data"],
        "settings": options.set,
        "seeds": options.seeds,
        "splits": {
            split: {
                "settings": space_of(options.preset, split),
                "scores": [scores(runs[split, seed]) for seed in options.seeds],
            }
            for split in options.split
        },
    }
    out = options.out or RESULTS / f"splits_{options.preset.replace('-', '_')}.json"
    write(out.stem, result, out)
    print(table(result))


def space_of(preset: str, split: str) -> list[str]:
    """The settings of a search space of so many widths and depths, the preset's ends kept.

    Raises:
        RequestError: the preset has no widths of whole channels, or too few for the split.
    """
    spec = load_preset(preset, [])
    if not {"width", "depth"} <= spec.space.keys() or "channels" not in spec.model.config:
        raise RequestError(f"{preset} has no widths in channels by depths to split")
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", split)
    if found is None:
        raise RequestError(f"--split {split}: expected WIDTHSxDEPTHS, as in 20x8")
    widest = max(spec.model.config["channels"])
    channels = spread(spec.space["width"], int(found[1]), widest)
    return [
        f"space.width={[count / widest for count in channels]}",
        f"space.depth={spread(spec.space['depth'], int(found[2]), 1)}",
    ]


def spread(values: Any, count: int, unit: int) -> list[int]:
    """So many whole numbers, evenly from the least of some values to the greatest, times `unit`."""
    least, greatest = (round(end * unit) for end in (min(values), max(values)))
    if count > greatest - least + 1:
        least = greatest - count + 1
    if least < 1:
        raise RequestError(f"--split: there are no {count} different values up to {greatest}")
    step = (greatest - least) / max(1, count - 1)
    return [round(greatest - step * place) for place in reversed(range(count))]


def scores(run: Result) -> dict[str, float]:
    """Test accuracy by sub-model, the smallest first."""
    return {row["name"]: score(row, "test") for row in run["rows"]}


def table(result: dict[str, Any]) -> str:
    """Test accuracy in percent, mean and standard deviation over the seeds."""
    splits = result["splits"]
    common = set.intersection(*(set(own["scores"][0]) for own in splits.values()))
    lines = [
        "| widths x depths | sub-models | largest | mean of all | worst of all"
        f" | mean of {len(common)} common | worst of them |",
        "|" + " --- |" * 7,
    ]
    for split, own in splits.items():
        by_seed = [list(found.values()) for found in own["scores"]]
        shared = [[found[name] for name in common] for found in own["scores"]]
        cells = [
            [accuracies[-1] for accuracies in by_seed],
            [statistics.fmean(accuracies) for accuracies in by_seed],
            [min(accuracies) for accuracies in by_seed],
            [statistics.fmean(accuracies) for accuracies in shared],
            [min(accuracies) for accuracies in shared],
        ]
        told = " | ".join(mean_and_spread(cell) for cell in cells)
        lines.append(f"| {split.replace('x', ' x ')} | {len(by_seed[0])} | {told} |")
    return "\n".join(lines)


if __name__ == "__main__":
    tell(main)
