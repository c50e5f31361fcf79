"""Settings compared for equal samples, beside lone twins: what each gives, and what it costs.

    python -m benchmarks.accuracy.candidates cifar10-resnet --data cifar10-jpeg.tar.xz \\
        --set train.epochs=6 --set train.precision=bf16 --lr 0.1 --alone-lr 0.1

trains the preset's network once for each candidate and learning rate, and `--twins` of its
sub-models (evenly spread by multiply-adds, the largest and the smallest among them) by themselves.
All see the same samples, each with its best learning rate by validation: of a candidate the mean
over its sub-models, of a twin its own. Work is in forward and backward multiply-adds of the largest
alone on these samples, teachers included.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from pathlib import Path
from typing import Any

from benchmarks.accuracy.lone_twins import spread
from benchmarks.accuracy.rules import ALIKE, RULES, SANDWICH, cost_per_sample
from benchmarks.accuracy.trainings import (
    Result,
    Row,
    Training,
    add_options,
    alone,
    mean_score,
    score,
    trainer_of,
)
from benchmarks.harness import RESULTS, positive, tell, write
from sortednet_cli.spec import presets

WITH_LARGEST = (*ALIKE, "train.always_largest=true", "train.draws=2")
HALF_TAUGHT = ("train.distill=true", "train.teacher_share=0.5")
QUARTERS = (*ALIKE, "train.batch_size=32", "train.accumulate=4")
ENDS = (*ALIKE, "train.rule=sandwich", "train.num_random=1")
PUBLISHED = (*SANDWICH, "train.loss=sum", "train.num_random=2", "train.distill=true")

CANDIDATES: dict[str, tuple[str, ...]] = {
    "one draw": ALIKE,
    "one draw, smallest first": (*ALIKE, "train.smallest_first=0.5"),
    "four micro-batches of 32": QUARTERS,
    "four micro-batches of 32, one of the largest": (*QUARTERS, "train.always_largest=true"),
    "the largest and one": WITH_LARGEST,
    "the largest and one, smallest first": (*WITH_LARGEST, "train.smallest_first=0.5"),
    "the largest and one, summed": (*WITH_LARGEST, "train.loss=sum"),
    "the largest and one, half taught": (*WITH_LARGEST, *HALF_TAUGHT),
    "the largest and one, half taught by alpha": (
        *WITH_LARGEST,
        *HALF_TAUGHT,
        "train.divergence=alpha",
    ),
    "the largest and two, half taught by the next": (
        *ALIKE,
        "train.always_largest=true",
        "train.draws=3",
        "train.distill=next",
        "train.teacher_share=0.5",
    ),
    "the largest and one, norms by width": (*WITH_LARGEST, "model.norms=by-width"),
    "the largest and one, averaged": (*WITH_LARGEST, "train.average=0.998"),
    "the largest, the smallest and one": (*ENDS, "train.loss=mean"),
    "the largest, the smallest and one, half taught": (*ENDS, "train.loss=mean", *HALF_TAUGHT),
    "the largest, the smallest and one, summed, half taught": (*ENDS, *HALF_TAUGHT),
    "the largest, the smallest and two, summed, half taught": (
        *ENDS,
        *HALF_TAUGHT,
        "train.num_random=2",
    ),
    "the largest, the smallest and one, summed, half taught by the next, smallest first": (
        *ENDS,
        "train.distill=next",
        "train.teacher_share=0.5",
        "train.smallest_first=0.5",
    ),
    "the largest, the smallest and one, summed, half taught, norms by width": (
        *ENDS,
        *HALF_TAUGHT,
        "model.norms=by-width",
    ),
    "the largest, the smallest and one, summed, half taught, averaged": (
        *ENDS,
        *HALF_TAUGHT,
        "train.average=0.998",
    ),
    "sandwich of US-Nets": PUBLISHED,
    "sandwich of AlphaNet": (*PUBLISHED, "train.divergence=alpha", "train.clip=1"),
}
"""What each candidate sets beside the preset."""


Tried = list[tuple[float, Result]]
"""Trainings that differ in their learning rate alone."""


def main() -> None:
    options = arguments()
    trainer = trainer_of(options)
    pairs = [*itertools.product(options.candidates, options.lr)]
    nested = trainer.results(candidate(name, lr, options) for name, lr in pairs)
    rows = spread(nested[0]["rows"], options.twins)
    lone = [*itertools.product(rows, options.alone_lr)]
    twins = trainer.results(twin(row, lr, options) for row, lr in lone)
    whole = cost_per_sample(options.preset, (*options.set, *RULES["single"]))
    result = {
        "preset": options.preset,
        "settings": options.set,
        "data": nested[0]["data"],
        "twins": [
            best([(lr, run) for (own, lr), run in zip(lone, twins, strict=True) if own is row])
            for row in rows
        ],
        "candidates": [
            {
                "candidate": name,
                "settings": list(CANDIDATES[name]),
                "work": cost_per_sample(options.preset, (*options.set, *CANDIDATES[name])) / whole,
                **best(
                    [(lr, r) for (own, lr), r in zip(pairs, nested, strict=True) if own == name]
                ),
            }
            for name in options.candidates
        ],
    }
    out = options.out or RESULTS / f"candidates_{options.preset.replace('-', '_')}.json"
    write(out.stem, result, out)
    print(table(result))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=presets.names())
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=[*CANDIDATES])
    parser.add_argument("--lr", type=float, nargs="+", required=True, help="of the candidates")
    parser.add_argument("--alone-lr", type=float, nargs="+", required=True, help="of the twins")
    parser.add_argument("--twins", type=positive, default=3, help="how many")
    parser.add_argument("--set", action="append", default=[], help="a setting of every training")
    parser.add_argument("--out", type=Path)
    add_options(parser)
    return parser.parse_args()


def candidate(name: str, lr: float, options: argparse.Namespace) -> Training:
    words = [options.preset, *name.replace(",", "").split(), f"{lr:g}"]
    settings = (*options.set, *CANDIDATES[name], f"train.lr={lr}")
    return Training("-".join(words), options.preset, settings)


def twin(row: Row, lr: float, options: argparse.Namespace) -> Training:
    settings = (*options.set, *alone(row["axes"]), f"train.lr={lr}")
    return Training(f"{options.preset}-alone-{row['name']}-{lr:g}", options.preset, settings)


def best(tried: Tried) -> dict[str, Any]:
    """What is kept of the training that validates best, by the mean over its sub-models."""
    lr, chosen = max(tried, key=lambda pair: mean_score(pair[1], "validation"))
    return {
        "lr": lr,
        "updates": chosen["updates"],
        "train_seconds": chosen["train_seconds"],
        "validation": {f"{lr:g}": mean_score(run, "validation") for lr, run in tried},
        "test": {row["name"]: score(row, "test") for row in chosen["rows"]},
    }


def table(result: dict[str, Any]) -> str:
    """Test accuracy in percent of the twins' sub-models and of the mean of all; work; seconds."""
    twins = {name: value for own in result["twins"] for name, value in own["test"].items()}
    rates = ", ".join(f"{own['lr']:g}" for own in result["twins"])
    lines = [
        f"| candidate | lr | work | {' | '.join(twins)} | mean of all | worst of twin | seconds |",
        "|" + " --- |" * (len(twins) + 6),
        f"| each alone | {rates} |  | {' | '.join(f'{100 * one:.1f}' for one in twins.values())}"
        f" |  |  | {sum(own['train_seconds'] for own in result['twins']):.0f} |",
    ]
    for own in result["candidates"]:
        scores = own["test"]
        worst = min(scores[name] / one for name, one in twins.items())
        lines.append(
            f"| {own['candidate']} | {own['lr']:g} | {own['work']:.2f}"
            f" | {' | '.join(f'{100 * scores[name]:.1f}' for name in twins)}"
            f" | {100 * statistics.fmean(scores.values()):.1f} | {worst:.3f}"
            f" | {own['train_seconds']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    tell(main)
