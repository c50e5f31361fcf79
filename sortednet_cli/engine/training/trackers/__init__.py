"""Trackers: one file each, imported when a spec names it.

A tracker of another package is a subclass of `Tracker`, named by an entry point of the group
`sortednet.trackers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sortednet_cli.engine.training.trackers.base import Tracker
from sortednet_cli.errors import SortednetError, WorkError, reason_of
from sortednet_cli.logs import logger
from sortednet_cli.spec.vocabulary import TRACKERS

__all__ = ["Recorder", "Tracker", "check_trackers", "tracking"]

WITHOUT = "take it out of [train] in the run's spec.toml"
"""How a training goes on without a tracker: `--resume` takes every setting from there."""


def check_trackers(names: Sequence[str]) -> None:
    """RequestError if a tracker cannot be loaded, or lacks what it needs."""
    for name in names:
        kind: type[Tracker] = TRACKERS.load(name, Tracker)
        with TRACKERS.making(name):
            kind.check()


@dataclass(frozen=True)
class Recorder:
    """Records with all trackers that are open.

    Attributes:
        opened: trackers by name, without those that have failed.
    """

    opened: dict[str, Tracker]

    def record(self, update: int, values: Mapping[str, float]) -> None:
        """Record the values of an update by name."""
        self._with_each(lambda tracker: tracker.record(update, values))

    def record_frontier(self, rows: Sequence[Mapping[str, Any]], picture: Path) -> None:
        """Record the sub-models and the picture of their frontier."""
        self._with_each(lambda tracker: tracker.record_frontier(rows, picture))

    def _with_each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.opened.items()):
            del self.opened[name]
            with _left_out(name):
                call(tracker)
                self.opened[name] = tracker


@contextmanager
def tracking(names: Sequence[str], run: Path, first: int) -> Iterator[Recorder]:
    """Open trackers, give what records with all of them, and close them in any case.

    One that fails after the first update is left out, with a warning: a training is worth more
    than its curves, and `metrics.jsonl` has all that they show. A full disk ends the training.

    Args:
        first: the first update to come.

    Raises:
        RequestError: a tracker lacks what it needs.
        WorkError: a tracker cannot be opened before the first update, or a disk is full.
    """
    check_trackers(names)
    with ExitStack() as stack:
        opened: dict[str, Tracker] = {}
        for name in names:
            with _told(name) if first == 1 else _left_out(name):
                opened[name] = TRACKERS.load(name, Tracker)(run, first)
                stack.push(partial(_close, name, opened[name]))

        yield Recorder(opened)


def _close(name: str, tracker: Tracker, _: object, ending: BaseException | None, *__: Any) -> None:
    """Close a tracker; where an error ends the training, that is the one to tell."""
    with _left_out(name, even_ours=ending is not None):
        tracker.failed = ending is not None
        tracker.close()


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Tell any error of a tracker in one message: WorkError."""
    try:
        yield
    except SortednetError:
        raise
    except Exception as error:
        raise WorkError(
            f"the tracker {name!r} failed: {reason_of(error)}; to go on without it, {WITHOUT}"
        ) from error


@contextmanager
def _left_out(name: str, even_ours: bool = False) -> Iterator[None]:
    """Go on after an error of a tracker, with a warning; after one of ours only if told to."""
    try:
        yield
    except Exception as error:
        if isinstance(error, SortednetError) and not even_ours:
            raise
        logger.warning(
            "the tracker %r failed and is left out: %s; metrics.jsonl has its values",
            name,
            reason_of(error),
        )
