"""What a training tells of itself while it goes on. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sortednet_cli.engine.sources.table import Row
from sortednet_cli.errors import SortednetError
from sortednet_cli.space import SubModel


class Interrupted(SortednetError):
    """The user asked to stop; a checkpoint of the last whole update is on disk."""


@dataclass(frozen=True)
class Started:
    """The run's folder exists; from here on the training can be resumed.

    Attributes:
        run: its folder.
    """

    run: Path


@dataclass(frozen=True)
class Updated:
    """One update is done.

    Attributes:
        update: how many are.
        total: of how many.
        submodels: that it trained.
    """

    update: int
    total: int
    loss: float
    lr: float
    submodels: tuple[SubModel, ...]
    samples_per_second: float


@dataclass(frozen=True)
class Scored:
    """One sub-model has its statistics and scores.

    Attributes:
        row: its costs and scores.
        done: how many sub-models have theirs, those of other processes estimated.
        total: of how many.
    """

    row: Row
    done: int
    total: int


@dataclass(frozen=True)
class Finished:
    """The run is complete on disk.

    Attributes:
        run: its folder.
        rows: of all sub-models.
        metric: what they are scored by.
    """

    run: Path
    rows: list[Row]
    metric: str
    train_seconds: float
    score_seconds: float


Event = Started | Updated | Scored | Finished
