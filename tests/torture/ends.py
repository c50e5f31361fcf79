"""What a training that was killed must be in the end: the one that never was, byte for byte."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

TIMES = {"run.json": ("created", "finished", "train_seconds", "digest")}
"""Fields that are times, and the digest of the file with them: all that may differ."""

_LEFT = re.compile(r"(.*/)?\.(lock|lock-holder|.*\.lock\.sortednet-tmp)|checkpoints(/.*)?")
"""What a kill can leave: lock files to the next writer, of which the last one of a run has none;
and the last checkpoint, where the run is marked finished and its checkpoint is there yet."""


def differences(found: Path, expected: Path, updates: int) -> list[str]:
    """How a finished run differs from another: names of its files, their bytes, its log."""
    names = [_names(run) for run in (found, expected)]
    wrong = [f"{name} is there in one alone" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        one, other = found / name, expected / name
        if one.is_file() and _content(one) != _content(other):
            wrong.append(f"{name} differs")
    numbers = [json.loads(line)["update"] for line in _lines(found / "metrics.jsonl")]
    if numbers != list(range(1, updates + 1)):
        wrong.append(f"metrics.jsonl holds the updates {numbers}")
    state = json.loads((found / "run.json").read_text())["state"]
    return wrong if state == "finished" else [*wrong, f"the run is {state}"]


def _names(run: Path) -> set[str]:
    names = (path.relative_to(run).as_posix() for path in run.rglob("*"))
    return {name for name in names if not _LEFT.fullmatch(name)}


def _content(path: Path) -> Any:
    times = TIMES.get(path.name)
    if times is None:
        return path.read_bytes()
    table = json.loads(path.read_text())
    return {key: value for key, value in table.items() if key not in times}


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()
