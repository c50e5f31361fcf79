"""Sub-models of one nested training beside the same sub-models trained alone.

    python -m benchmarks.accuracy.lone_twins shakespeare-llama --data input.txt \\
        --lr 1e-3 5e-4 --alone-lr 1e-3 5e-4
    python -m benchmarks.accuracy.lone_twins cifar10-resnet --data cifar10-jpeg.tar.xz \\
        --set train.epochs=4 --count 12 --share --lr 0.1 --alone-lr 0.1

trains the preset once for each learning rate (and `--variant` of its settings), then each of its
sub-models (`--count` of them, evenly spread by multiply-adds) by itself with the rule `single`: the
same root, the same slice of it, the same samples in the same order, one training for each learning
rate. With `--share` each is also trained on as many samples as the rule gives it within the nested
training. Each side keeps the run that validates best, the nested network by the mean over its
sub-models, a twin by itself. Test figures are read once that choice is made. Everything goes
through the command line, and is kept under --work.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from pathlib import Path
from typing import Any

from benchmarks.accuracy.trainings import (
    Result,
    Row,
    Trainer,
    Training,
    add_options,
    alone,
    mean_score,
    score,
    trainer_of,
)
from benchmarks.harness import RESULTS, positive, tell, write
from sortednet_cli.rules import make_rule
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import load_preset, presets


def main() -> None:
    options = arguments()
    trainer = trainer_of(options)
    nested = trainer.results(nested_trainings(options))
    chosen = max(nested, key=lambda result: mean_score(result, "validation"))
    rows = spread(chosen["rows"], options.count)
    twins = twins_of(rows, options, trainer, None)
    shares = {}
    if options.share:
        share = shares_of(options.preset, chosen["settings"])
        updates = {
            row["name"]: max(1, round(chosen["updates"] * share[row["name"]])) for row in rows
        }
        shares = twins_of(rows, options, trainer, updates)
    result = compare(chosen, nested, rows, twins, shares)
    result["preset"], result["shared_settings"] = options.preset, options.set
    out = options.out or RESULTS / f"{options.preset.replace('-', '_')}_twins.json"
    write(out.stem, result, out)
    print(table(result))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=presets.names())
    parser.add_argument("--lr", type=float, nargs="+", required=True, help="of the nested network")
    parser.add_argument("--alone-lr", type=float, nargs="+", required=True, help="of the twins")
    parser.add_argument("--set", action="append", default=[], help="a setting of both sides")
    parser.add_argument(
        "--variant", action="append", help="settings of the nested side alone, by spaces; repeat"
    )
    parser.add_argument("--count", type=positive, help="twins; default: one for each sub-model")
    parser.add_argument("--share", action="store_true", help="twins on their share of the samples")
    parser.add_argument("--out", type=Path)
    add_options(parser)
    return parser.parse_args()


def nested_trainings(options: argparse.Namespace) -> list[Training]:
    variants = [tuple(words.split()) for words in options.variant or [""]]
    return [
        Training(
            f"{options.preset}-nested-{number}-{lr:g}",
            options.preset,
            (*options.set, *variant, f"train.lr={lr}"),
        )
        for number, variant in enumerate(variants)
        for lr in options.lr
    ]


def spread(rows: list[Row], count: int | None) -> list[Row]:
    """`count` of the rows, evenly spread by multiply-adds, the largest first."""
    ordered = sorted(rows, key=lambda row: row["macs"], reverse=True)
    if count is None or count >= len(ordered):
        return ordered
    steps = max(1, count - 1)
    return [ordered[round(i * (len(ordered) - 1) / steps)] for i in range(count)]


def twins_of(
    rows: list[Row],
    options: argparse.Namespace,
    trainer: Trainer,
    updates: dict[str, int] | None,
) -> dict[str, list[tuple[float, Result]]]:
    """Train each sub-model alone, once for each learning rate; `updates` cuts it short."""
    pairs = list(itertools.product(rows, options.alone_lr))
    trainings = []
    for row, lr in pairs:
        settings = [*alone(row["axes"]), f"train.lr={lr}"]
        name = f"{options.preset}-{row['name']}-{lr:g}"
        if updates is not None:
            settings.append(f"train.updates={updates[row['name']]}")
            name += "-share"
        trainings.append(Training(name, options.preset, (*options.set, *settings)))
    found: dict[str, list[tuple[float, Result]]] = {}
    for (row, lr), result in zip(pairs, trainer.results(trainings), strict=True):
        found.setdefault(row["name"], []).append((lr, result))
    return found


def shares_of(preset: str, settings: list[str]) -> dict[str, float]:
    """By sub-model: which share of the micro-batches trains it."""
    spec = load_preset(preset, settings)
    space = SearchSpace.of(spec.space)
    shares = dict.fromkeys((s.name for s in space.submodels), 0.0)
    for phase in make_rule(spec.train, space).phases():
        draws = phase.draws()
        for submodel in itertools.chain(*draws):
            shares[submodel.name] += phase.length / len(draws)
    return shares


def compare(
    chosen: Result,
    nested: list[Result],
    rows: list[Row],
    twins: dict[str, list[tuple[float, Result]]],
    shares: dict[str, list[tuple[float, Result]]],
) -> dict[str, Any]:
    """Put every sub-model of the chosen nested run beside its best twin."""
    submodels = []
    for row in rows:
        lr, twin = _best_twin(twins[row["name"]])
        own = {
            **row,
            "alone": twin["rows"][0]["metrics"],
            "alone_lr": lr,
            "alone_train_seconds": twin["train_seconds"],
            "alone_by_lr": {
                f"{lr:g}": score(one["rows"][0], "validation") for lr, one in twins[row["name"]]
            },
        }
        if shares:
            lr, twin = _best_twin(shares[row["name"]])
            own["share"] = {
                "metrics": twin["rows"][0]["metrics"],
                "lr": lr,
                "updates": twin["updates"],
            }
        submodels.append(own)
    return {
        "data": chosen["data"],
        "chosen": {key: chosen[key] for key in ("settings", "updates", "train_seconds")},
        "nested_tried": [
            {
                **{key: one[key] for key in ("settings", "train_seconds")},
                "mean_validation_score": mean_score(one, "validation"),
                "test": {row["name"]: score(row, "test") for row in one["rows"]},
            }
            for one in nested
        ],
        "submodels": submodels,
    }


def _best_twin(tried: list[tuple[float, Result]]) -> tuple[float, Result]:
    return max(tried, key=lambda pair: score(pair[1]["rows"][0], "validation"))


def table(result: dict[str, Any]) -> str:
    """Test figures of every sub-model, nested and alone, as Markdown, and what they come to."""
    return f"{grid(result)}\n\n{summary(result)}"


def summary(result: dict[str, Any]) -> str:
    """What the ratios of all come to, and the time of both sides."""
    seconds = sum(row["alone_train_seconds"] for row in result["submodels"])
    ratios = ratios_of(result)
    worst = min(ratios) if _is_accuracy(result) else max(ratios)
    return (
        f"Ratio nested/alone: mean {statistics.fmean(ratios):.3f}, worst {worst:.3f}, largest"
        f" {ratios[0]:.3f}. Training took {result['chosen']['train_seconds']:.0f} s nested and"
        f" {seconds:.0f} s for the {len(ratios)} chosen twins together."
    )


def grid(result: dict[str, Any]) -> str:
    """A row for each sub-model."""
    accurate = _is_accuracy(result)
    metric = "accuracy" if accurate else "perplexity"
    shares = "share" in result["submodels"][0]
    head = f"| sub-model | parameters | {metric} nested | {metric} alone | ratio | lr alone |"
    if shares:
        head += f" {metric} alone on its share | its updates |"
    lines = [head, "|" + " --- |" * (head.count("|") - 1)]
    for row, ratio in zip(result["submodels"], ratios_of(result), strict=True):
        pair = [row["metrics"]["test"][metric], row["alone"]["test"][metric]]
        cells = [f"{100 * value:.1f}" if accurate else f"{value:.2f}" for value in pair]
        size = f"{row['params'] / 1e6:.2f} M"
        line = (
            f"| {row['name']} | {size} | {' | '.join(cells)} | {ratio:.3f} | {row['alone_lr']:g} |"
        )
        if shares:
            value = row["share"]["metrics"]["test"][metric]
            shown = f"{100 * value:.1f}" if accurate else f"{value:.2f}"
            line += f" {shown} | {row['share']['updates']} |"
        lines.append(line)
    return "\n".join(lines)


def tried(result: dict[str, Any]) -> str:
    """Mean validation accuracy of all sub-models, by the variant's own settings and its rate."""
    found: dict[tuple[tuple[str, str], ...], dict[float, float]] = {}
    for one in result["nested_tried"]:
        settings = dict(setting.split("=", 1) for setting in one["settings"])
        lr = float(settings.pop("train.lr", one.get("lr", 0)))
        found.setdefault(tuple(settings.items()), {})[lr] = 100 * one["mean_validation_score"]
    common = set.intersection(*map(set, found))
    rates = sorted({lr for scores in found.values() for lr in scores})
    lines = [
        "| settings | " + " | ".join(f"lr {lr:g}" for lr in rates) + " |",
        "|" + " --- |" * (len(rates) + 1),
    ]
    for settled, scores in found.items():
        own = [f"`{key}={value}`" for key, value in settled if (key, value) not in common]
        cells = [f"{scores[lr]:.1f}" for lr in rates]
        lines.append(f"| {' | '.join([', '.join(own), *cells])} |")
    return "\n".join(lines)


def ratios_of(result: dict[str, Any]) -> list[float]:
    """Nested over alone for each sub-model, the largest first."""
    metric = "accuracy" if _is_accuracy(result) else "perplexity"
    return [
        row["metrics"]["test"][metric] / row["alone"]["test"][metric] for row in result["submodels"]
    ]


def _is_accuracy(result: dict[str, Any]) -> bool:
    return "perplexity" not in result["submodels"][0]["alone"]["test"]


if __name__ == "__main__":
    tell(main)
