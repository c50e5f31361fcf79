"""Teachers compared at equal work: a fixed one, the largest sub-model as it trains, and none.

    python -m benchmarks.accuracy.teachers cifar10-resnet --samples 95000 \\
        --teacher-samples 237500 --data cifar10-jpeg.tar.xz

The fixed teacher is the preset's largest sub-model, trained alone on `--teacher-samples` samples.
Its passes over the students' batches count as work. Its own training does not, because many
students can share one teacher. Otherwise as benchmarks.accuracy.rules.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.accuracy.rules import add_comparison, compare, table
from benchmarks.accuracy.trainings import ALONE, Result, Training, largest, score, trainer_of
from benchmarks.harness import RESULTS, tell, write
from sortednet_cli.spec import load_preset, presets

TEACHERS = {
    "none": (),
    "none, all sizes from the start": ("train.smallest_first=0",),
    "the largest, in place": ("train.smallest_first=0", "train.distill=true"),
    "the largest, in place, in a sandwich": (
        "train.smallest_first=0",
        "train.rule=sandwich",
        "train.loss=mean",
        "train.distill=true",
    ),
    "fixed, half of the loss": ("train.teacher_share=0.5",),
    "fixed, all of the loss": (),
}
"""Settings beside the preset's. Smallest first leaves no largest sub-model to teach in place."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=presets.names())
    parser.add_argument("--teacher-samples", type=int, required=True)
    add_comparison(parser)
    options = parser.parse_args()
    teacher = lone(options.preset, options.teacher_samples)
    trainer = trainer_of(options)
    (taught,) = trainer.results([teacher])
    fixed = f"train.teacher={trainer.folder(teacher)}"
    rules = {
        name: (*settings, *([fixed] if name.startswith("fixed") else []))
        for name, settings in TEACHERS.items()
    }
    result = compare(options.preset, rules, options)
    finish("teachers", options, result, options.teacher_samples, taught)


LONE_LR = 0.1


def lone(preset: str, samples: int) -> Training:
    """Train the largest sub-model of a preset alone."""
    updates = round(samples / load_preset(preset, ["train.updates=1"]).train.batch_size)
    settings = (f"train.updates={updates}", f"train.lr={LONE_LR}", *ALONE)
    return Training(f"{preset}-{samples}-lone", preset, settings)


def finish(
    kind: str, options: argparse.Namespace, result: dict[str, Any], samples: int, alone: Result
) -> None:
    """Write and print a comparison, with what the lone training was that it began from."""
    result["lone"] = {
        "samples": samples,
        "lr": LONE_LR,
        "score": score(largest(alone), "test"),
        "train_seconds": alone["train_seconds"],
    }
    out = options.out or RESULTS / f"{kind}_{options.preset.replace('-', '_')}.json"
    write(out.stem, result, out)
    print(table(result))


if __name__ == "__main__":
    tell(main)
