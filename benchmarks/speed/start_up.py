"""What a training takes before its first update and after its last, apart from passes.

    python -m benchmarks.speed.start_up [--before ../older/.venv/bin/python]

Trains two updates of a preset with many sub-models on a few random images, by the command line in a
process of its own. The seconds of a part are without those of the parts inside it. `--before` names
the Python of another installation, which is measured in turn with this one. Writes
benchmarks/results/start_up.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, wraps
from importlib import import_module
from pathlib import Path
from typing import Any

PARTS = {
    "checking the space": ["engine.training.start:check_space"],
    "plans": ["nesting.network:NestedNetwork.plan"],
    "modules": ["nesting.network:NestedNetwork._build"],
    "costs": [
        "nesting.cost:Costs.count",
        "nesting.cost:cost_of",
        "engine.training.scoring:cost_of",
    ],
}
"""What is timed: functions, by the module of the package that calls them and their name there."""

PASSES = ["engine.evaluation.score:score_part", "engine.evaluation.score:recalibrate"]
FIRST, LAST = "engine.training.loop:Trainer._accumulate", "engine.training.loop:Trainer._step"

Seconds = tuple[float, float]
"""By the clock, and of the CPU."""


@dataclass
class Watch:
    """Takes the time of a process.

    Attributes:
        began: when it was started, in seconds of the epoch.
        parts: seconds of each part, without those of parts inside it.
        first: seconds until the first update began.
        last: seconds until the last update was done.
    """

    began: float
    parts: dict[str, Seconds] = field(default_factory=dict)
    first: Seconds | None = None
    last: Seconds = (0.0, 0.0)
    _inside: Seconds = (0.0, 0.0)

    def now(self) -> Seconds:
        return time.time() - self.began, time.process_time()

    def time_part(self, name: str, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        start, outside, self._inside = self.now(), self._inside, (0.0, 0.0)
        try:
            return call(*given, **named)
        finally:
            whole = minus(self.now(), start)
            self.parts[name] = plus(self.parts.get(name, (0.0, 0.0)), minus(whole, self._inside))
            self._inside = plus(outside, whole)

    def note_first(self, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        self.first = self.first or self.now()
        return call(*given, **named)

    def note_last(self, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        result = call(*given, **named)
        self.last = self.now()
        return result

    def told(self) -> dict[str, Seconds]:
        """Every part; what came before the first update; and what after the last but passes."""
        assert self.first is not None
        after = minus(minus(self.now(), self.last), self.parts.pop("passes"))
        return {**self.parts, "before the first update": self.first, "after the last": after}


def plus(one: Seconds, other: Seconds) -> Seconds:
    return one[0] + other[0], one[1] + other[1]


def minus(one: Seconds, other: Seconds) -> Seconds:
    return one[0] - other[0], one[1] - other[1]


def main() -> None:
    options = arguments()
    if options.began:
        print(json.dumps(measured(options.began, options.words)))
        return
    from benchmarks.harness import write

    pythons = {"now": Path(sys.executable)}
    if options.before:
        pythons = {"before": options.before, **pythons}
    result = {
        "preset": options.preset,
        "threads": options.threads,
        "seconds": measure(pythons, options),
    }
    write("start_up", result, options.out)
    print(table(result))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="cifar10-mobilenetv2")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--before", type=Path, help="the Python of another installation")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/start_up.json")
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(
    pythons: dict[str, Path], options: argparse.Namespace
) -> dict[str, dict[str, list[Seconds]]]:
    """All samples of every installation, in turn."""
    from benchmarks.speed.allocator import clean, on_images, random_images

    found: dict[str, dict[str, list[Seconds]]] = {name: {} for name in pythons}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        random_images(folder / "images", train=1000, test=20)
        settings = ["train.updates=2", "train.recalibrate_samples=64", "data.validation=0.02"]
        words = ["train", f"--preset={options.preset}", *(f"--set={s}" for s in settings)]
        words += [*on_images(folder), "--device=cpu", "--quiet"]
        for repeat in range(options.repeats):
            for name, python in pythons.items():
                out = f"--out={folder / f'{name}-{repeat}'}"
                child = [str(python), __file__, f"--began={time.time()}", "--", *words, out]
                environment = clean(folder, options.threads)
                said = subprocess.run(child, check=True, capture_output=True, env=environment)
                for part, seconds in json.loads(said.stdout.splitlines()[-1]).items():
                    found[name].setdefault(part, []).append(seconds)
    return found


def measured(began: float, words: list[str]) -> dict[str, Seconds]:
    """Run a command of the package that this process finds."""
    from sortednet_cli import allocator
    from sortednet_cli.cli.main import run

    allocator.keep_freed_memory()
    watch = Watch(began)
    for name, places in {**PARTS, "passes": PASSES}.items():
        for place in places:
            wrap(place, partial(watch.time_part, name))
    wrap(FIRST, watch.note_first)
    wrap(LAST, watch.note_last)
    if code := run(words):
        sys.exit(code)
    return watch.told()


def wrap(place: str, around: Callable[..., Any]) -> None:
    """Let `around` be called with a function of the package, and with what that is called with.

    An older package may not have it.
    """
    module, _, attribute = place.partition(":")
    owner: Any = import_module(f"sortednet_cli.{module}")
    *classes, name = attribute.split(".")
    for step in classes:
        owner = getattr(owner, step, None)
    call = getattr(owner, name, None)
    if call is None:
        return

    @wraps(call)  # a function: a method has to find its object
    def wrapped(*given: Any, **named: Any) -> Any:
        return around(call, *given, **named)

    setattr(owner, name, wrapped)


def table(result: dict[str, Any]) -> str:
    """Medians by part, by the clock and of the CPU."""
    columns = [(name, unit) for name in result["seconds"] for unit in (0, 1)]
    heads = [f"{name}, {('s', 's of CPU')[unit]}" for name, unit in columns]
    rows = [f"| part | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    medians = {
        (name, unit): {
            part: statistics.median(sample[unit] for sample in samples)
            for part, samples in found.items()
        }
        for name, found in result["seconds"].items()
        for unit in (0, 1)
    }
    for each in medians.values():
        each["these four"] = sum(each[part] for part in PARTS)
    for part in (*PARTS, "these four", "before the first update", "after the last"):
        cells = (f"{medians[column].get(part, 0.0):.1f}" for column in columns)
        rows.append(f"| {part} | {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
