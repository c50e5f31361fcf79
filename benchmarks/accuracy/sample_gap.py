"""How many more samples a nested network needs than a network trained alone.

    python -m benchmarks.accuracy.sample_gap cifar10-resnet --samples 240000 \\
        --data cifar10-jpeg.tar.xz --set train.precision=bf16

trains the largest sub-model alone, and the smallest alone, on an eighth, a quarter, half and all of
`--samples` samples, each with a whole learning rate schedule of its own. Then every rule trains the
nested network on all of them. A rule's gap is how many of those samples it took for each one that
brings the same sub-model alone to the same test accuracy (between the measured numbers of samples:
linear in their logarithm); `--alone` takes these from an earlier result. Nothing is said beyond the
measured range. Beside it the rule's forward and backward multiply-adds, as a share of those of the
largest alone on as many samples.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
from pathlib import Path
from typing import Any

from benchmarks.accuracy.rules import RULES, cost_per_sample, mean_and_spread
from benchmarks.accuracy.trainings import (
    Result,
    Row,
    Training,
    add_options,
    largest,
    mean_score,
    score,
    smallest,
    trainer_of,
)
from benchmarks.harness import RESULTS, tell, write
from sortednet_cli.errors import RequestError
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import load_preset, presets

SHARES = (0.125, 0.25, 0.5, 1.0)
BY_DEFAULT = [
    "sorted",
    "sorted, nested init",
    "sorted, nested init, largest first",
    "sorted, nested init, largest first, distilled",
]

Curve = list[tuple[float, float]]
"""Samples and the accuracy that training alone on so many gives, ascending."""


def main() -> None:
    options = arguments()
    trainer = trainer_of(options)
    spec = load_preset(options.preset, options.set)
    space = SearchSpace.of(spec.space)
    batch = spec.train.batch_size

    def training(name: str, settings: tuple[str, ...], share: float, seed: int) -> Training:
        updates = max(1, round(share * options.samples / batch))
        more = (f"train.updates={updates}", f"train.lr={options.lr}", f"train.seed={seed}")
        folder = "-".join([options.preset, "gap", *name.replace(",", "").split(), f"{updates}"])
        return Training(f"{folder}-{seed}", options.preset, (*options.set, *settings, *more))

    def lone(which: str, share: float, seed: int) -> Training:
        submodel = space.largest if which == "largest" else space.smallest
        only = tuple(f"space.{axis}=[{value}]" for axis, value in submodel.axes.items())
        return training(f"{which} alone", (*RULES["single"], *only), share, seed)

    def measured() -> dict[str, list[Curve]]:
        pairs = [(which, share) for which in ("largest", "smallest") for share in SHARES]
        alone = trainer.results(lone(*pair, seed) for seed in options.seeds for pair in pairs)
        found = [*zip(pairs * len(options.seeds), alone, strict=True)]
        return {
            which: [
                [samples_and_accuracy(run, batch) for (own, _), run in of_seed if own == which]
                for of_seed in by_seed(found, options)
            ]
            for which in ("largest", "smallest")
        }

    curves = measured() if options.alone is None else earlier(options)
    nested = trainer.results(
        training(name, RULES[name], 1.0, seed) for seed in options.seeds for name in options.rules
    )
    of_rules = [*zip(options.rules * len(options.seeds), nested, strict=True)]
    whole = cost_per_sample(options.preset, (*options.set, *RULES["single"]))
    result = {
        "preset": options.preset,
        "data": nested[0]["data"],
        "samples": batch * nested[0]["updates"],
        "seeds": options.seeds,
        "lr": options.lr,
        "settings": options.set,
        "alone": curves,
        "rules": [
            {
                "rule": name,
                "settings": list(RULES[name]),
                "work": cost_per_sample(options.preset, (*options.set, *RULES[name])) / whole,
                **points([run for own, run in of_rules if own == name], curves),
            }
            for name in options.rules
        ],
    }
    out = options.out or RESULTS / f"sample_gap_{options.preset.replace('-', '_')}.json"
    write(out.stem, result, out)
    print(table(result))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=presets.names())
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--lr", type=float, default=0.1, help="of every training")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=BY_DEFAULT)
    parser.add_argument("--alone", type=Path, help="an earlier result that has the lone networks")
    parser.add_argument("--set", action="append", default=[], help="a setting of every training")
    parser.add_argument("--out", type=Path)
    add_options(parser)
    return parser.parse_args()


def earlier(options: argparse.Namespace) -> dict[str, list[Curve]]:
    """The curves of an earlier result; RequestError if it is of other trainings, or none at all."""
    try:
        result = json.loads(options.alone.read_text(encoding="utf-8"))
        curves: dict[str, list[Curve]] = result["alone"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"--alone {options.alone}: no result of this benchmark") from error
    asked = {"preset": options.preset, "samples": options.samples, "seeds": options.seeds}
    asked |= {"lr": options.lr, "settings": options.set}
    differ = [key for key, value in asked.items() if result[key] != value]
    if differ:
        raise RequestError(f"--alone {options.alone}: made with other {' and '.join(differ)}")
    return curves


def by_seed(found: list[Any], options: argparse.Namespace) -> list[list[Any]]:
    """Cut what was trained seed after seed into the seeds."""
    each = len(found) // len(options.seeds)
    return [found[i * each : (i + 1) * each] for i in range(len(options.seeds))]


def samples_and_accuracy(run: Result, batch: int) -> tuple[float, float]:
    (row,) = run["rows"]
    return float(batch * run["updates"]), score(row, "test")


def points(runs: list[Result], curves: dict[str, list[Curve]]) -> dict[str, Any]:
    """Of one rule, for each seed: accuracies, and the samples alone that give the same."""

    def same(row: Row, which: str, seed: int) -> float | None:
        return samples_for(score(row, "test"), curves[which][seed])

    return {
        "largest": [score(largest(run), "test") for run in runs],
        "mean": [mean_score(run, "test") for run in runs],
        "smallest": [score(smallest(run), "test") for run in runs],
        "largest_alone_samples": [same(largest(run), "largest", i) for i, run in enumerate(runs)],
        "smallest_alone_samples": [
            same(smallest(run), "smallest", i) for i, run in enumerate(runs)
        ],
        "train_seconds": statistics.median(run["train_seconds"] for run in runs),
    }


def samples_for(accuracy: float, curve: Curve) -> float | None:
    """Samples with which training alone reaches an accuracy; None outside the curve."""
    for (few, low), (many, high) in itertools.pairwise(curve):
        if low <= accuracy <= high:
            part = (accuracy - low) / (high - low) if high > low else 0.0
            return math.exp((1 - part) * math.log(few) + part * math.log(many))
    return None


def table(result: dict[str, Any]) -> str:
    """Test accuracies in percent, and the gap in samples of the largest and of the smallest."""
    lines = [
        "| trained | work | largest | mean of all | smallest | gap: largest | smallest |",
        "|" + " --- |" * 7,
    ]
    for number, (samples, _) in enumerate(result["alone"]["largest"][0]):
        shown = [
            mean_and_spread([curve[number][1] for curve in result["alone"][which]])
            for which in ("largest", "smallest")
        ]
        share = samples / result["samples"]
        lines.append(
            f"| alone, {samples:,.0f} samples | {share:.2f} | {shown[0]} |  | {shown[1]} |  |  |"
        )
    for rule in result["rules"]:
        cells = [mean_and_spread(rule[key]) for key in ("largest", "mean", "smallest")]
        cells += [
            _gap(result["samples"], rule[f"{which}_alone_samples"], rule[which], curves)
            for which, curves in result["alone"].items()
        ]
        lines.append(f"| {rule['rule']} | {rule['work']:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _gap(
    samples: int, alone: list[float | None], accuracies: list[float], curves: list[Curve]
) -> str:
    """The mean over the seeds as `2.1x`; a bound if one seed lies beyond its curve."""
    if all(alone):
        return f"{statistics.geometric_mean([samples / one for one in alone if one]):.1f}x"
    beyond = [i for i, one in enumerate(alone) if one is None]
    if all(accuracies[i] > curves[i][-1][1] for i in beyond):
        return "below 1x"
    return f"above {samples / curves[0][0][0]:.0f}x"


if __name__ == "__main__":
    tell(main)
