"""All sub-models of one training against the largest of them trained alone.

    python -m benchmarks.accuracy.nested_160 digits-resnet --lr 0.1 0.3 --alone-lr 0.1 0.3
    python -m benchmarks.accuracy.nested_160 cifar10-mobilenetv2 --data cifar10-jpeg.tar.xz \\
        --set train.epochs=6 --tune-set train.epochs=1 --seeds 0 --lr 0.1 --alone-lr 0.05 0.1 0.2

Both sides see the same number of training samples of one fixed split. The learning rate of each
side is the one of its grid with the best validation accuracy at the first seed: of the largest
sub-model alone, of the mean over the sub-models of the nested network. Then every seed is trained
with it. The figure is the test accuracy of each sub-model over that of the largest trained alone
with the same seed. No sub-model is left out. Trainings are kept under --work.

`--tune-set` shortens the trainings that choose the learning rate, or thins their search space.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from benchmarks.accuracy.trainings import (
    ALONE,
    Result,
    Trainer,
    Training,
    add_options,
    largest,
    mean_score,
    score,
    smallest,
    trainer_of,
)
from benchmarks.harness import RESULTS, tell, write
from sortednet_cli.engine.evaluation.plot import draw_cells
from sortednet_cli.spec import load_preset, presets


def main() -> None:
    options = arguments()
    trainer = trainer_of(options)
    alone = train_side("alone", alone_settings(options), options.alone_lr, options, trainer)
    nested = train_side("nested", [], options.lr, options, trainer)
    result = compare(nested, alone)
    write(options.out.stem, result, options.out)
    print(table(result))
    if options.plot is not None:
        draw(result, options.plot)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=presets.names())
    parser.add_argument("--lr", type=float, nargs="+", required=True, help="of the nested network")
    parser.add_argument("--alone-lr", type=float, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], help="a setting of both sides")
    parser.add_argument("--tune-set", action="append", default=[], help="one of the choice of rate")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path, help="draw the heat map there")
    add_options(parser)
    options = parser.parse_args()
    options.out = options.out or RESULTS / f"{options.preset.replace('-', '_')}_160.json"
    return options


def alone_settings(options: argparse.Namespace) -> list[str]:
    """The largest sub-model by itself: rule `single`, and a search space of that one."""
    space = load_preset(options.preset, options.set).space
    return [
        *ALONE,
        *(f"space.{axis}=[{max(values)}]" for axis, values in space.items()),
    ]


def train_side(
    side: str,
    settings: list[str],
    rates: list[float],
    options: argparse.Namespace,
    trainer: Trainer,
) -> dict[str, Any]:
    """Choose the learning rate at the first seed, then train every seed with it."""

    def training(name: str, lr: float, seed: int, more: list[str]) -> Training:
        # A lone network stays alone where the choice of rate sets another search space.
        every = (*options.set, *more, *settings, f"train.lr={lr}", f"train.seed={seed}")
        return Training(f"{options.preset}-{name}-{lr:g}-{seed}", options.preset, every)

    first = options.seeds[0]
    tried: list[Result] = []
    chosen = rates[0]
    if len(rates) > 1:
        name = f"{side}-tune" if options.tune_set else side
        tried = trainer.results(training(name, lr, first, options.tune_set) for lr in rates)
        best = max(tried, key=lambda result: mean_score(result, "validation"))
        chosen = rates[tried.index(best)]
    runs = trainer.results(training(side, chosen, seed, []) for seed in options.seeds)
    return {
        "lr": chosen,
        "lr_tried": {
            f"{lr:g}": mean_score(result, "validation")
            for lr, result in zip(rates, tried, strict=False)
        },
        "runs": [{"seed": s, **run} for s, run in zip(options.seeds, runs, strict=True)],
    }


def compare(nested: dict[str, Any], alone: dict[str, Any]) -> dict[str, Any]:
    """Put each nested run beside the lone network of its seed."""
    seeds = []
    for run, lone in zip(nested["runs"], alone["runs"], strict=True):
        scores = [score(row, "test") for row in run["rows"]]
        seeds.append(
            {
                "seed": run["seed"],
                "alone": score(lone["rows"][0], "test"),
                "largest": score(largest(run), "test"),
                "mean": statistics.fmean(scores),
                "smallest": score(smallest(run), "test"),
                "worst": min(scores),
                "train_seconds": run["train_seconds"],
                "alone_train_seconds": lone["train_seconds"],
            }
        )
    rows = nested["runs"][0]["rows"]
    return {
        "data": nested["runs"][0]["data"],
        "submodels": len(rows),
        "macs_smallest": smallest(nested["runs"][0])["macs"],
        "macs_largest": largest(nested["runs"][0])["macs"],
        "seeds": seeds,
        "nested": nested,
        "alone": alone,
    }


def table(result: dict[str, Any]) -> str:
    """Accuracies in percent of the test part, and as a share of the largest trained alone."""
    share = 100 * result["macs_smallest"] / result["macs_largest"]
    lines = [
        f"{result['submodels']} sub-models, the smallest with {share:.1f}% of the largest's"
        " multiply-adds.",
        "",
        "| seed | largest alone | nested: largest | mean | smallest | worst"
        " | of alone: largest | mean | smallest | worst | training time, of alone |",
        "|" + " --- |" * 11,
    ]
    for seed in result["seeds"]:
        points = ("largest", "mean", "smallest", "worst")
        cells = [f"{100 * seed[key]:.2f}" for key in ("alone", *points)]
        cells += [f"{100 * seed[key] / seed['alone']:.2f}%" for key in points]
        cells.append(f"{seed['train_seconds'] / seed['alone_train_seconds']:.2f}")
        lines.append(f"| {seed['seed']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def short_table(result: dict[str, Any]) -> str:
    """Accuracies in percent, and how the worst sub-model stands to the largest alone."""
    lines = [
        "| seed | largest alone | nested largest | mean of all | worst of all | worst / alone |",
        "|" + " --- |" * 6,
    ]
    for seed in result["seeds"]:
        cells = [f"{100 * seed[key]:.2f}" for key in ("alone", "largest", "mean", "worst")]
        share = f"{100 * seed['worst'] / seed['alone']:.2f}%"
        lines.append(f"| {seed['seed']} | {' | '.join(cells)} | {share} |")
    return "\n".join(lines)


def wall_times(result: dict[str, Any]) -> str:
    """Seconds of the updates, and of a whole run with the statistics and scores of its end."""
    lines = [
        "| seed | updates: alone | nested | with statistics and scores: alone | nested |",
        "|" + " --- |" * 5,
    ]
    for side in zip(result["alone"]["runs"], result["nested"]["runs"], strict=True):
        cells = [f"{run[key]:,.0f} s" for key in ("train_seconds", "wall_seconds") for run in side]
        lines.append(f"| {side[1]['seed']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def width_table(result: dict[str, Any]) -> str:
    """Of each width, over all depths and seeds: accuracies in percent of the largest alone."""
    shares: dict[float, list[float]] = {}
    least: dict[float, float] = {}
    for run, seed in zip(result["nested"]["runs"], result["seeds"], strict=True):
        for row in run["rows"]:
            width = float(row["axes"]["width"])
            shares.setdefault(width, []).append(100 * score(row, "test") / seed["alone"])
            macs = 100 * row["macs"] / result["macs_largest"]
            least[width] = min(least.get(width, macs), macs)
    lines = ["| width | least multiply-adds | of alone: worst | mean | best |", "|" + " --- |" * 5]
    for width, found in sorted(shares.items(), reverse=True):
        points = (least[width], min(found), statistics.fmean(found), max(found))
        lines.append(f"| {width:g} | {' | '.join(f'{point:.1f}%' for point in points)} |")
    return "\n".join(lines)


def draw(result: dict[str, Any], path: Path) -> None:
    """The heat map: each sub-model's test accuracy in percent of the largest's alone.

    Means over the seeds.
    """
    from matplotlib.figure import Figure

    scores: dict[tuple[float, int], list[float]] = {}
    for run, seed in zip(result["nested"]["runs"], result["seeds"], strict=True):
        for row in run["rows"]:
            axes = row["axes"]
            share = 100 * score(row, "test") / seed["alone"]
            scores.setdefault((float(axes["width"]), int(axes["depth"])), []).append(share)
    widths, depths = sorted({w for w, _ in scores}), sorted({d for _, d in scores})
    cells = [[statistics.fmean(scores[w, d]) for d in depths] for w in widths]
    figure = Figure(figsize=(1.6 + 0.62 * len(depths), 1.4 + 0.26 * len(widths)))
    figure.set_layout_engine("constrained")
    panel = figure.subplots()
    draw_cells(panel, cells, widths, depths, "{:.1f}".format)
    count = len(result["seeds"])
    seeds = f", mean of {count} seeds" if count > 1 else ""
    panel.set_title(f"test accuracy, % of the largest trained alone{seeds}", fontsize=9)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    tell(main)
