"""Trackers: one file each, imported when a spec names it.

A tracker of another package is a subclass of `Tracker`, named by an entry point of the group
`sortednet.trackers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sortednet_cli.engine.training.trackers.base import Tracker
from sortednet_cli.errors import SortednetError, WorkError, reason_of
from sortednet_cli.logs import logger
from sortednet_cli.spec.vocabulary import TRACKERS

__all__ = ["Record", "Tracker", "check_trackers", "tracking"]

Record = Callable[[int, Mapping[str, float]], None]
"""Takes the number of an update and its values by name."""


def check_trackers(names: Sequence[str]) -> None:
    """RequestError if a tracker cannot be loaded, or lacks what it needs."""
    for name in names:
        TRACKERS.load(name, Tracker).check()


@contextmanager
def tracking(names: Sequence[str], run: Path, first: int) -> Iterator[Record]:
    """Open trackers, give a function that records with all of them, and close them in any case.

    Raises:
        RequestError: a tracker lacks what it needs.
        WorkError: a tracker failed.
    """
    check_trackers(names)
    with ExitStack() as stack:
        opened = {name: stack.enter_context(_opened(name, run, first)) for name in names}

        def record(update: int, values: Mapping[str, float]) -> None:
            for name, tracker in opened.items():
                with _failing(name):
                    tracker.record(update, values)

        yield record


@contextmanager
def _opened(name: str, run: Path, first: int) -> Iterator[Tracker]:
    kind: type[Tracker] = TRACKERS.load(name, Tracker)
    with _failing(name):
        tracker = kind(run, first)
    try:
        yield tracker
    except BaseException:
        try:
            tracker.close()
        except Exception as error:  # the training's own error is the one to tell
            logger.warning("the tracker %r could not be closed: %s", name, reason_of(error))
        raise
    with _failing(name):
        tracker.close()


@contextmanager
def _failing(name: str) -> Iterator[None]:
    """Tell any error of a tracker in one message: WorkError."""
    try:
        yield
    except SortednetError:
        raise
    except Exception as error:
        raise WorkError(f"the tracker {name!r} failed: {reason_of(error)}") from error
