"""The two kinds of error a person can meet, and the exit code each one means."""

from __future__ import annotations

from collections.abc import Iterable


class SortednetError(Exception):
    """Base of every error that is shown as one message, without a traceback.

    `told_here` says whether this process is the one of its job to show it; None leaves it to the
    first.
    """

    exit_code = 1
    told_here: bool | None = None


class RequestError(SortednetError):
    """The request was wrong: an option, a preset, a sub-model, a file. Exit code 2."""

    exit_code = 2


class WorkError(SortednetError):
    """The request was right, the work itself failed. Exit code 1."""

    exit_code = 1


def listed(values: Iterable[object]) -> str:
    """Render legal values for an error message: `0.25, 0.5, 1`."""
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)
