"""Damage real files and command lines at random; each case must end with one message.

    python tests/torture/fuzz.py --cases 2000 --seed 0

Every case runs in a child of one warm process, under bounds of time and memory. What must hold
is in `oracle.complaint`. `--only 'KIND:NUMBER'` runs one case again and shows what it said.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the project lies two folders above
    sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from benchmarks.harness import write
from tests.commands import listing
from tests.torture.kinds import KINDS, make_case
from tests.torture.oracle import MEMORY, SECONDS, Ended, complaint, fresh, run_forked
from tests.torture.template import make_template


@dataclass
class DecodingStats:
    """What came of the cases of one kind."""

    codes: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        return {
            "cases": self.codes.total(),
            "codes": {str(code): count for code, count in sorted(self.codes.items())},
            "slowest_seconds": round(self.slowest, 1),
            "failures": self.failures,
        }


def cases(count: int) -> Iterator[tuple[str, int]]:
    """Kinds in turn, so that every prefix of the cases holds all of them."""
    names = list(KINDS)
    return ((names[i % len(names)], i // len(names)) for i in range(count))


def attack(
    kind: str, number: int, seed: int, template: Path, place: Path
) -> tuple[list[str], Ended, str | None]:
    """Run one case below `place`; return its command line, its end and what is wrong with it."""
    folder, arguments = make_case(
        kind, number, seed, lambda parts: fresh(template, parts, place / "work")
    )
    before = listing(folder)
    ended = run_forked(arguments, folder, place)
    return arguments, ended, complaint(ended, before, folder, writes="--resume" in arguments)


def table(result: dict[str, Any]) -> str:
    """Cases by kind of input, as Markdown."""
    lines = [
        "| input | cases | exit 0 | exit 1 | exit 2 | failures |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind, row in result["kinds"].items():
        codes = " | ".join(str(row["codes"].get(code, 0)) for code in "012")
        lines.append(f"| {kind} | {row['cases']} | {codes} | {len(row['failures'])} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="KIND:NUMBER")
    parser.add_argument("--json", type=Path, help="where the result goes")
    parser.add_argument("--template", type=Path, help="a folder that keeps the real files")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
    with tempfile.TemporaryDirectory(prefix="sortednet-fuzz-") as temporary:
        place = Path(temporary)
        os.environ["SORTEDNET_CACHE"] = str(place / "cache")
        template = chosen.template or place / "template"
        if not template.is_dir():
            make_template(template)
        if chosen.only:
            kind, _, number = chosen.only.rpartition(":")
            arguments, ended, wrong = attack(kind, int(number), chosen.seed, template, place)
            print(arguments, ended.out, ended.err, ended.code, wrong or "as it should be", sep="\n")
            return int(wrong is not None)
        return _all(chosen, template, place)


def _all(chosen: argparse.Namespace, template: Path, place: Path) -> int:
    tallies = {kind: DecodingStats() for kind in KINDS}
    start = time.perf_counter()
    for kind, number in cases(chosen.cases):
        arguments, ended, wrong = attack(kind, number, chosen.seed, template, place)
        tally = tallies[kind]
        tally.codes[ended.code] += 1
        tally.slowest = max(tally.slowest, ended.seconds)
        if wrong:
            last = (ended.err.strip().splitlines() or [""])[-1][:200]
            tally.failures.append(f"{kind}:{number}: {wrong}: {last}")
            print(tally.failures[-1], ascii(arguments)[:300], flush=True)
    result = {
        "seed": chosen.seed,
        "cases": chosen.cases,
        "failures": sum(len(tally.failures) for tally in tallies.values()),
        "seconds": round(time.perf_counter() - start),
        "bounds": {"processor_seconds": SECONDS, "memory_bytes": MEMORY},
        "kinds": {kind: tally.record() for kind, tally in tallies.items()},
    }
    print(table(result))
    write("torture_fuzz", result, chosen.json)
    return int(result["failures"] > 0)


if __name__ == "__main__":
    sys.exit(main())
