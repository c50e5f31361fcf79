"""The curves of a training, read from the run's log. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from sortednet_cli.errors import RequestError
from sortednet_cli.storage.files import read_bytes
from sortednet_cli.storage.run import RunFolder
from sortednet_cli.storage.sources import StoredSource

MAX_POINTS = 1000
"""Most points of a curve: more could not be told apart."""


def read_curves(stored: StoredSource) -> dict[str, Any] | None:
    """Read loss and learning rate by update; None if the source has no log.

    Of a long log each point stands for `lines_each` lines, with their mean loss and the last
    learning rate.

    Raises:
        RequestError: the log is damaged.
    """
    file = RunFolder(stored.path).metrics
    if stored.checks is not None and file.name in (stored.checks.files or ()):
        stored.checks.verify(file)
    entries = _entries(file) if file.is_file() else []
    if not entries:
        return None
    each = math.ceil(len(entries) / MAX_POINTS)
    groups = [entries[start : start + each] for start in range(0, len(entries), each)]
    return {
        "lines_each": each,
        "update": [group[-1]["update"] for group in groups],
        "loss": [_mean_loss(group) for group in groups],
        "lr": [group[-1]["lr"] for group in groups],
    }


def _entries(file: Path) -> list[Mapping[str, Any]]:
    entries = []
    for number, line in enumerate(read_bytes(file).splitlines(), 1):
        try:
            entry = json.loads(line)
            sound = entry["loss"] is None or math.isfinite(entry["loss"])
            sound = sound and math.isfinite(entry["lr"]) and isinstance(entry["update"], int)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            sound = False
        if not sound:
            raise RequestError(f"{file} is damaged: line {number} holds no update, loss and lr")
        entries.append(entry)
    return entries


def _mean_loss(group: list[Mapping[str, Any]]) -> float | None:
    """The mean of the losses that were finite; None if none was."""
    losses = [entry["loss"] for entry in group if entry["loss"] is not None]
    return fmean(losses) if losses else None
