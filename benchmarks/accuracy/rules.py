"""Rules compared: every one gets the same multiply-adds, on the same data, with the same seeds.

    python -m benchmarks.accuracy.rules cifar10-cpreresnet20 --samples 95000 \\
        --data cifar10-jpeg.tar.xz
    python -m benchmarks.accuracy.rules cifar10-resnet --samples 95000 --data cifar10-jpeg.tar.xz

The budget is what it takes to train the largest sub-model alone on `--samples` samples, forward and
backward; a backward pass counts as two forward passes, and a teacher's pass counts. From the cost
model follows how many updates a rule can take for it: fewer, where it trains several sub-models on
a micro-batch. `single` is the largest alone. `--lr` tries several learning rates
at the first seed for each rule and keeps the one with the best mean validation accuracy (of
`single`: of the largest). A table is made of one or more files: more seeds can come later, by
`--seeds` and an `--out` of their own.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Collection, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.accuracy.trainings import (
    ALONE,
    Result,
    Training,
    add_options,
    largest,
    mean_score,
    score,
    smallest,
    trainer_of,
)
from benchmarks.harness import PLAIN, RESULTS, tell, write
from sortednet_cli.data import nominal_format
from sortednet_cli.engine.planning.costs import compute_of
from sortednet_cli.engine.planning.passes import routes_of
from sortednet_cli.engine.planning.teacher import PlannedTeacher
from sortednet_cli.families import open_family, root_of
from sortednet_cli.rules import make_rule
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import load_preset, presets

STOCK = (*PLAIN, "train.crossing_lr=1", "model.init=stock")
SORTED = (*STOCK, "train.rule=sorted")
NESTED = (*SORTED, "model.init=nested")
LARGEST_FIRST = (*NESTED, "train.largest_first=0.5")
ALIKE = (*SORTED, "model.init=nested-identity", "train.crossing_lr=0.3")
SANDWICH = (*STOCK, "train.rule=sandwich", "train.loss=mean")
LINES = (
    *(f"model.{key}=" for key in ("config", "depth_order", "init")),
    "model.family=custom",
    "model.factory=benchmarks.accuracy.lines:LinesNetwork",
    "model.config.width=1.0",
    "model.axes.width.sets=width",
    *PLAIN,
    "train.crossing_lr=1",
    "train.rule=sandwich",
)
"""Learning Compressible Subspaces with a line, for the four widths of `cifar10-cpreresnet20`."""
OF_WIDTHS = {
    "slimmable": (*SANDWICH, "train.loss=sum", "model.norms=by-width"),
    "LCS, point": (*SANDWICH, "train.loss=sum", "model.config.norm=instance"),
    "LCS, line": LINES,
}
"""Published for widths alone: of a preset's rules only if they are named."""

RULES: dict[str, tuple[str, ...]] = {
    "single": ("train.accumulate=1", *ALONE),
    "single, identity init": ("train.accumulate=1", *ALONE, "model.init=nested-identity"),
    "sorted": SORTED,
    "sorted, nested init": NESTED,
    "sorted, nested init, largest first": LARGEST_FIRST,
    "sorted, nested init, largest first, distilled": (*LARGEST_FIRST, "train.distill=true"),
    "sorted, nested init, 3 draws": (*NESTED, "train.draws=3"),
    "sorted, nested init, largest first, 3 draws": (*LARGEST_FIRST, "train.draws=3"),
    "sorted, identity init, slow crossing": ALIKE,
    "sorted, identity init, slow crossing, smallest first": (*ALIKE, "train.smallest_first=0.5"),
    "sandwich": SANDWICH,
    "sandwich, distilled": (*SANDWICH, "train.distill=true"),
    "sandwich, summed": (*SANDWICH, "train.loss=sum"),
    "sandwich, summed, distilled": (*SANDWICH, "train.loss=sum", "train.distill=true"),
    **OF_WIDTHS,
    "sum": (*STOCK, "train.rule=sum"),
    "sandwich-sum": (*STOCK, "train.rule=sandwich-sum", "train.num_random=1"),
}
"""What stands for each rule; those with `sum` need a depth axis."""

SCORES = ("largest", "mean", "smallest")
"""What a result keeps of a rule for each seed: test accuracies."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=presets.names())
    parser.add_argument("--rules", nargs="+", choices=RULES, help="default: all that fit")
    add_comparison(parser)
    options = parser.parse_args()
    names = options.rules or fitting(options.preset)
    result = compare(options.preset, {name: RULES[name] for name in names}, options)
    out = options.out or RESULTS / f"rules_{options.preset.replace('-', '_')}.json"
    write(out.stem, result, out)
    print(table(result))


def add_comparison(parser: argparse.ArgumentParser) -> None:
    """Options of every comparison at equal multiply-adds."""
    parser.add_argument("--samples", type=int, required=True, help="of the largest alone")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--lr", type=float, nargs="+", help="tried at the first seed")
    parser.add_argument("--set", action="append", default=[], help="a setting of every training")
    parser.add_argument("--out", type=Path)
    add_options(parser)


def compare(
    preset: str,
    rules: Mapping[str, tuple[str, ...]],
    options: argparse.Namespace,
    samples: Mapping[str, int] | None = None,
    tuned: Collection[str] | None = None,
) -> dict[str, Any]:
    """Train by every rule for the same multiply-adds, each at its best learning rate.

    Args:
        rules: by name, what sets it apart from the preset.
        samples: by name, another budget than `options.samples`.
        tuned: names that try `options.lr`; the others take the preset's. None: all of them.
    """
    trainer = trainer_of(options)
    own = [load_preset(preset).train.lr]
    rates = {
        name: (options.lr if tuned is None or name in tuned else None) or own for name in rules
    }

    def training(name: str, lr: float, seed: int) -> Training:
        settings = (*options.set, *rules[name])
        budget = (samples or {}).get(name, options.samples)
        updates = updates_for(preset, settings, budget)
        more = (f"train.updates={updates}", f"train.lr={lr}", f"train.seed={seed}")
        words = [preset, str(budget), *name.replace(",", "").split()]
        return Training("-".join([*words, f"{lr:g}", str(seed)]), preset, (*settings, *more))

    first = options.seeds[0]
    tried = iter(trainer.results(training(name, lr, first) for name in rules for lr in rates[name]))
    by_rule = {name: list(islice(tried, len(rates[name]))) for name in rules}
    chosen = {n: rates[n][by_rule[n].index(max(by_rule[n], key=choice(n)))] for n in rules}
    runs = trainer.results(
        training(name, chosen[name], seed) for name in rules for seed in options.seeds
    )
    count = len(options.seeds)
    return {
        "preset": preset,
        "data": runs[0]["data"],
        "samples": options.samples,
        "seeds": options.seeds,
        "settings": options.set,
        "rules": [
            {
                **summary(name, rules[name], chosen[name], runs[i * count : (i + 1) * count]),
                "tried": {
                    f"{lr:g}": mean_score(run, "test")
                    for lr, run in zip(rates[name], by_rule[name], strict=True)
                },
            }
            for i, name in enumerate(rules)
        ],
    }


def fitting(preset: str) -> list[str]:
    """The rules that a preset's search space allows, of those for any axes."""
    has_depth = "depth" in load_preset(preset).space
    return [name for name in RULES if name not in OF_WIDTHS and (has_depth or "sum" not in name)]


def choice(name: str) -> Any:
    """What chooses a rule's learning rate: validation accuracy."""
    if name.startswith("single"):
        return lambda result: score(largest(result), "validation")
    return lambda result: mean_score(result, "validation")


def updates_for(preset: str, settings: tuple[str, ...], samples: int) -> int:
    """Updates that cost as much as training the largest alone on `samples` samples."""
    spec = load_preset(preset, [*settings, "train.updates=1"])
    alone = cost_per_sample(preset, (*settings, *RULES["single"]))
    each = spec.train.batch_size * spec.train.accumulate
    return max(1, round(samples * alone / (each * cost_per_sample(preset, settings))))


def cost_per_sample(preset: str, settings: tuple[str, ...]) -> float:
    """Multiply-adds of training on one sample, forward and backward, teachers included."""
    spec = load_preset(preset, [*settings, "train.updates=1"])
    inputs, space = nominal_format(spec), SearchSpace.of(spec.space)
    family = open_family(root_of(spec.model, spec.task, inputs.facts()))
    routes = routes_of(family, space, inputs)
    rule, teacher = make_rule(spec.train, space), PlannedTeacher.open(spec.train, inputs)
    update = compute_of(spec.train, rule, space, routes, teacher.macs if teacher else 0).total
    return update / (spec.train.batch_size * spec.train.accumulate)


def summary(name: str, settings: tuple[str, ...], lr: float, runs: list[Result]) -> dict[str, Any]:
    """A rule's accuracies over the seeds, mean and standard deviation."""
    points = {
        "largest": [score(largest(run), "test") for run in runs],
        "mean": [mean_score(run, "test") for run in runs],
        "smallest": [score(smallest(run), "test") for run in runs],
    }
    return {
        "rule": name,
        "settings": list(settings),
        "lr": lr,
        "updates": runs[0]["updates"],
        "train_seconds": statistics.median(run["train_seconds"] for run in runs),
        "rows": {
            row["name"]: statistics.fmean(
                score(own, "test")
                for run in runs
                for own in run["rows"]
                if own["name"] == row["name"]
            )
            for row in runs[0]["rows"]
        },
        **points,
    }


def joined(*results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By rule its learning rate, updates, and the scores and seconds of all files.

    They must differ in their seeds alone.
    """
    found: dict[str, dict[str, Any]] = {}
    for result in results:
        for rule in result["rules"]:
            training = [trained(result, rule), result["data"]]
            own = found.setdefault(
                rule["rule"],
                {
                    **{key: rule[key] for key in ("rule", "lr", "updates")},
                    **{key: [] for key in (*SCORES, "train_seconds")},
                    "training": training,
                },
            )
            if own["training"] != training:
                raise SystemExit(f"{rule['rule']} was not trained alike in all files")
            own["train_seconds"].append(rule["train_seconds"])
            for key in SCORES:
                own[key] += rule[key]
    return found


def trained(result: dict[str, Any], rule: dict[str, Any]) -> dict[str, str]:
    """What set a rule's runs apart from `STOCK` ones, whatever their seed.

    By the words of the file alone: a preset may have changed since.
    """
    more = (f"preset={result['preset']}", f"train.lr={rule['lr']}", f"updates={rule['updates']}")
    plain = dict(setting.split("=", 1) for setting in STOCK)
    named = dict(s.split("=", 1) for s in (*more, *result["settings"], *rule["settings"]))
    return {key: value for key, value in named.items() if plain.get(key) != value}


def table(*results: dict[str, Any]) -> str:
    """Test accuracy in percent, mean and standard deviation over the seeds of all files."""
    lines = [
        "| rule | lr | updates | largest | mean of all | smallest | seconds |",
        "|" + " --- |" * 7,
    ]
    for rule in joined(*results).values():
        cells = [mean_and_spread(rule[key]) for key in SCORES]
        if rule["rule"].startswith("single"):
            cells[1:] = ["", ""]
        lines.append(
            f"| {rule['rule']} | {rule['lr']:g} | {rule['updates']} | {' | '.join(cells)}"
            f" | {statistics.median(rule['train_seconds']):.0f} |"
        )
    return "\n".join(lines)


def mean_and_spread(values: list[float]) -> str:
    """In percent; of one value no spread."""
    mean = f"{100 * statistics.fmean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean


if __name__ == "__main__":
    tell(main)
