"""The two kinds of error a person can meet, and the exit code each one means."""

from __future__ import annotations

import re
from collections.abc import Iterable


class SortednetError(Exception):
    """Base of every error that is shown as one message, without a traceback.

    `report_here` says whether this process is the one of its job to show it; None leaves it to the
    first.
    """

    exit_code = 1
    report_here: bool | None = None


class RequestError(SortednetError):
    """The request was wrong: an option, a preset, a sub-model, a file. Exit code 2."""

    exit_code = 2


class WorkError(SortednetError):
    """The request was right, the work itself failed. Exit code 1."""

    exit_code = 1


_LONGEST_REASON = 300


def reason_of(error: BaseException) -> str:
    """What a foreign error says, on one line: its first, without names of errors before it."""
    text = str(getattr(error, "strerror", None) or error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reason = re.sub(r"^(?:\w*Error: )+", "", lines[0]) if lines else ""
    return reason[:_LONGEST_REASON] or type(error).__name__


def plain(text: str) -> str:
    """A text for a terminal: what it would obey and what cannot be seen, as escapes.

    Names and contents of files that others made come into messages, and a terminal takes some
    characters for orders. Line breaks stay.
    """
    return "".join(
        char if char == "\n" or char.isprintable() else ascii(char)[1:-1] for char in text
    )


def listed(values: Iterable[object]) -> str:
    """Render legal values for an error message: `0.25, 0.5, 1`."""
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)


def shortened(names: list[str] | tuple[str, ...], most: int = 5) -> str:
    """Render the first few of many names for a message."""
    if not names:
        return "none"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return listed(names[:most]) + more
