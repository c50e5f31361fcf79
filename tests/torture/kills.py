"""Kill trainings at random and at chosen moments, and compare what they end as.

    python -m tests.torture.kills --seed 0

Trainings run in children forked from this process, which has trained before and has everything
imported; some kills are of real commands, and some of the launcher of a job of two processes. A
training is begun or resumed until it ends, then every file of its run is compared with that of a
training that was never killed. Prints a table and writes benchmarks/results/torture_kills.json,
or `--out`.
Exits with 1 if any training ended otherwise.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import write
from sortednet_cli.cli.main import run
from tests.torture import children
from tests.torture.cases import CASES, UPDATES, Case, write_text
from tests.torture.children import Child
from tests.torture.ends import TIMES, differences
from tests.torture.jobs import launcher_kills

Begin = Callable[..., Child]
FILE_CALLS = "between file operations"
MOST_KILLS = 4


@dataclass
class Figures:
    """What was done to the trainings of a case."""

    case: str
    kills: Counter[str] = field(default_factory=Counter)
    trainings: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass
class Torture:
    """One case: its training that is never killed, and those that are."""

    case: Case
    place: Path
    text: Path
    draw: random.Random

    def __post_init__(self) -> None:
        self.figures = Figures(self.case.name)
        self.whole = self.place / "whole"
        self.whole.mkdir(parents=True)
        calls = self.whole / "calls"
        start = time.monotonic()
        child = children.fork(
            self.whole, self.words(self.whole), lambda: children.count_calls(calls)
        )
        assert child.wait() == 0, (self.whole / children.TALK).read_text()
        self.seconds = time.monotonic() - start
        self.calls = int(calls.read_text())

    def words(self, folder: Path) -> list[str]:
        """What begins the training in a folder, or goes on with it."""
        if (folder / "run").exists():
            return ["train", "--resume", "run", "--device=cpu"]
        return self.case.words(self.text)

    def sweep(self, calls: Sequence[int], log_lines: Sequence[int]) -> None:
        """Kill before each of these calls that change files, and within lines of the log."""
        for number in calls:
            self._kill_once(FILE_CALLS, f"call {number}", children.kill_at_call, number)
        for number in log_lines:
            self._kill_once("within a log line", f"line {number}", children.kill_in_log, number)

    def _kill_once(self, kind: str, where: str, killer: Callable[[int], None], at: int) -> None:
        folder = self._folder()
        child = children.fork(folder, self.words(folder), lambda: killer(at))
        if child.wait() < 0:
            self.figures.kills[kind] += 1
        self._end(folder, where)

    def at_random(self, kills: int, begin: Begin, seconds: float, label: str = "") -> None:
        """Kill trainings several times each, until there were so many kills."""
        while kills > 0:
            folder, history = self._folder(), list[str]()
            for _ in range(self.draw.randint(1, min(kills, MOST_KILLS))):
                if _finished(folder):  # the kill came after all was done
                    break
                moments = children.moments(folder, seconds, self.draw)
                kind = "any time" if label else self.draw.choice(sorted(moments))
                child = begin(folder, self.words(folder))
                while child.poll() is None and not moments[kind]():
                    time.sleep(0.0005)
                if child.kill():
                    self.figures.kills[label or kind] += 1
                    history.append(kind)
                    kills -= 1
                elif child.code == 0:
                    break
                else:
                    self.figures.wrong.append(f"exit code {child.code}: {self._talk(folder)}")
                    break
            self._end(folder, ", ".join(history))

    def _folder(self) -> Path:
        self.figures.trainings += 1
        folder = self.place / str(self.figures.trainings)
        folder.mkdir()
        return folder

    def _end(self, folder: Path, history: str) -> None:
        """Let a training end in peace; remove it unless it is wrong."""
        wrong: list[str] = []
        if not _finished(folder):
            child = children.fork(folder, self.words(folder))
            if child.wait() != 0:
                wrong = [f"exit code {child.code}: {self._talk(folder)}"]
        wrong = wrong or differences(folder / "run", self.whole / "run", UPDATES)
        if wrong:
            self.figures.wrong.append(f"{folder.name} ({history}): {'; '.join(wrong)}")
        else:
            shutil.rmtree(folder)

    def _talk(self, folder: Path) -> str:
        return (folder / children.TALK).read_text()[-600:]


def main() -> int:
    options = _options()
    start = time.monotonic()
    figures = []
    place = Path(options.keep or tempfile.mkdtemp(prefix="torture-"))
    place.mkdir(parents=True, exist_ok=True)
    text = write_text(place / "topics.txt")
    _warm_up(place, text)
    for number, case in enumerate(CASES):
        draw = random.Random(f"{options.seed} {case.name}")
        torture = Torture(case, place / str(number), text, draw)
        first = draw.randrange(options.stride)
        calls = range(1 + first, torture.calls + 1, options.stride)
        torture.sweep(calls, range(1, UPDATES + 1) if options.stride == 1 else [2])
        torture.at_random(options.kills, children.fork, torture.seconds)
        if number < 2 or case.reads_text:
            fresh = options.fresh_seconds
            torture.at_random(options.fresh, children.begin, fresh, "real command, any time")
        figures.append(torture.figures)
        print(_line(torture.figures), flush=True)
    if options.launchers:
        kills, wrong = launcher_kills(place / "jobs", options.launchers, options.seed)
        done = Figures("two processes", Counter({"launcher, any time": kills}), kills, wrong)
        figures.append(done)
        print(_line(done), flush=True)
    result = _result(options.seed, figures, time.monotonic() - start)
    write("torture_kills", result, options.out)
    print(table(result))
    for wrong in result["wrong"]:
        print(wrong, file=sys.stderr)
    if not result["wrong"] and not options.keep:
        shutil.rmtree(place)
    return 1 if result["wrong"] else 0


def _finished(folder: Path) -> bool:
    with suppress(FileNotFoundError):
        return '"finished",' in (folder / "run" / "run.json").read_text()
    return False


def _warm_up(place: Path, text: Path) -> None:
    """Train once of each kind, so that children are copies of a process with all imports."""
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    torch.set_num_threads(1)
    for case in (CASES[0], CASES[-1]):
        words = case.words(text)
        with redirect_stdout(sys.stderr):
            assert run([*words[:-1], str(place / f"warm, {case.name}"), "--quiet"]) == 0


def table(result: dict[str, Any]) -> str:
    """Kills by case and kind of moment."""
    cases = result["cases"]
    kinds = sorted({kind for case in cases for kind in case["kills"]})
    rows = [f"| killed | {' | '.join(case['case'] for case in cases)} |"]
    rows.append("| --- |" + " ---: |" * len(cases))
    for kind in kinds:
        rows.append(_row(kind, [case["kills"].get(kind, 0) for case in cases]))
    rows.append(_row("kills", [sum(case["kills"].values()) for case in cases]))
    rows.append(_row("trainings", [case["trainings"] for case in cases]))
    rows.append(_row("ended otherwise", [len(case["wrong"]) for case in cases]))
    return "\n".join(rows)


def _row(title: str, counts: list[int]) -> str:
    return f"| {title} | {' | '.join(map(str, counts))} |"


def _line(figures: Figures) -> str:
    kills = sum(figures.kills.values())
    return f"{figures.case}: {kills} kills, {figures.trainings} trainings, {figures.wrong}"


def _result(seed: int, figures: list[Figures], seconds: float) -> dict[str, Any]:
    return {
        "command": " ".join(["python -m tests.torture.kills", *sys.argv[1:]]),
        "seed": seed,
        "seconds": round(seconds),
        "kills": sum(sum(case.kills.values()) for case in figures),
        "may_differ": {name: list(keys) for name, keys in TIMES.items()},
        "cases": [
            {
                "case": case.case,
                "kills": dict(sorted(case.kills.items())),
                "trainings": case.trainings,
                "wrong": case.wrong,
            }
            for case in figures
        ],
        "wrong": [f"{case.case}: {wrong}" for case in figures for wrong in case.wrong],
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stride", type=int, default=4, help="sweep every so many-th call")
    parser.add_argument("--kills", type=int, default=12, help="random and aimed ones of each case")
    parser.add_argument("--fresh", type=int, default=3, help="of real commands, where they are")
    parser.add_argument("--fresh-seconds", type=float, default=8.0, help="latest moment of these")
    parser.add_argument("--launchers", type=int, default=2, help="kills of a job's launcher")
    parser.add_argument("--out", type=Path, help="file of the results")
    parser.add_argument("--keep", type=Path, help="an empty folder to work in and to leave")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
