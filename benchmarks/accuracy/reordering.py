"""What it gives to put a pretrained model's most important heads and units first.

    python -m benchmarks.accuracy.reordering sst2-minilm --data sst2

trains the preset from the same weights twice for every seed: with heads, hidden dimensions and FFN
units in order of their importance, so that narrow sub-models begin with the best of them, and in
the order in which they were stored. Test accuracy of every sub-model, mean over the seeds.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from benchmarks.accuracy.trainings import Training, add_options, score, trainer_of
from benchmarks.harness import RESULTS, tell, write
from sortednet_cli.spec import presets

ORDERS = {"by importance": "importance", "as stored": "none"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=presets.names())
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--set", action="append", default=[], help="a setting of both")
    parser.add_argument("--out", type=Path)
    add_options(parser)
    options = parser.parse_args()

    def training(order: str, seed: int) -> Training:
        more = (f"model.reorder={ORDERS[order]}", f"train.seed={seed}")
        name = f"{options.preset}-{order.replace(' ', '-')}-{seed}"
        return Training(name, options.preset, (*options.set, *more))

    pairs = [(order, seed) for seed in options.seeds for order in ORDERS]
    found = list(zip(pairs, trainer_of(options).results(training(*p) for p in pairs), strict=True))
    rows = found[0][1]["rows"]
    result = {
        "preset": options.preset,
        "data": found[0][1]["data"],
        "seeds": options.seeds,
        "settings": options.set,
        "axes": {row["name"]: row["axes"] for row in rows},
        "orders": {
            order: {
                row["name"]: [
                    score(own, "test")
                    for (by, _), run in found
                    for own in run["rows"]
                    if by == order and own["name"] == row["name"]
                ]
                for row in rows
            }
            for order in ORDERS
        },
        "train_seconds": [run["train_seconds"] for _, run in found],
    }
    out = options.out or RESULTS / f"reordering_{options.preset.replace('-', '_')}.json"
    write(out.stem, result, out)
    print(table(result))


def table(*results: dict[str, Any]) -> str:
    """Test accuracy in percent: a row for each width in both orders, a column for each depth.

    The mean over the seeds of all files, which must differ in their seeds alone.
    """
    axes = results[0]["axes"]
    alike = [{key: r[key] for key in ("preset", "settings", "data", "axes")} for r in results]
    seeds = [seed for result in results for seed in result["seeds"]]
    if any(own != alike[0] for own in alike) or len(set(seeds)) < len(seeds):
        raise SystemExit("the files must differ in their seeds alone")
    widths = sorted({point["width"] for point in axes.values()})
    depths = sorted({point["depth"] for point in axes.values()})
    heads = " | ".join(f"depth {depth}" for depth in depths)
    lines = [f"| width | units | {heads} | mean |", "|" + " --- |" * (len(depths) + 3)]
    for width in widths:
        for order in ORDERS:
            means = [
                100 * statistics.fmean(s for r in results for s in r["orders"][order][name])
                for depth in depths
                for name, point in axes.items()
                if point == {"width": width, "depth": depth}
            ]
            cells = " | ".join(f"{mean:.1f}" for mean in [*means, statistics.fmean(means)])
            lines.append(f"| {width:g} | {order} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    tell(main)
