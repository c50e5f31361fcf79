"""The errors that a user can see, with their exit codes, and the formatting of messages."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class SortednetError(Exception):
    """Base of every error that is shown as one message, without a traceback.

    Attributes:
        exit_code: the command's exit code.
        report_here: whether this process of a job should show the error; None leaves it to the
            first process.
    """

    exit_code = 1
    report_here: bool | None = None


class RequestError(SortednetError):
    """The request was wrong: an option, a preset, a sub-model, a file. Exit code 2."""

    exit_code = 2


class PromptTooLong(RequestError):
    """A prompt leaves no room for another token in the model's context."""


class WorkError(SortednetError):
    """The request was right, the work itself failed. Exit code 1."""

    exit_code = 1


_LONGEST_REASON = 300


def reason_of(error: BaseException) -> str:
    """Return the first line of another library's error, without the names of error classes."""
    text = str(getattr(error, "strerror", None) or error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reason = re.sub(r"^(?:\w*Error: )+", "", lines[0]) if lines else ""
    return reason[:_LONGEST_REASON] or type(error).__name__


def plain(text: str) -> str:
    """Escape control characters and other invisible ones, except line breaks, for a terminal.

    Messages quote names and contents of untrusted files, which could hold terminal commands.
    """
    return "".join(
        char if char == "\n" or char.isprintable() else ascii(char)[1:-1] for char in text
    )


def suggestion(word: object, legal: Iterable[object]) -> str:
    """The legal word that another one was probably meant for, as ` (did you mean crop?)`.

    One that is spelt nearly so, or else an abbreviation by initials: `lr` for `learning_rate`.
    """
    said, names = str(word), [str(name) for name in legal]
    close = difflib.get_close_matches(said, names, n=1)
    close += [name for name in names if name == _initials(said) or said == _initials(name)]
    return f" (did you mean {close[0]}?)" if close else ""


def _initials(word: str) -> str:
    parts = [part for part in re.split("[-_]", word) if part]
    return "".join(part[0] for part in parts) if len(parts) > 1 else ""


_OPTION = re.compile(r"`[^`]*`|sortednet [a-z][^;,)]*|(?<![\w-])--([a-z][a-z-]*)")
_ARGUMENTS = {"set": "settings", "format": "file_format"}


def as_arguments(text: str) -> str:
    """A message about options in the words of the Python interface: its arguments.

    Whole commands in it stay commands.
    """

    def argument(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        name = found[1].replace("-", "_")
        if name.startswith("max_") and name != "max_shard_size":
            return f"limits[{name.removeprefix('max_')!r}]"
        return _ARGUMENTS.get(name, name)

    return _OPTION.sub(argument, text)


@contextmanager
def naming_arguments() -> Iterator[None]:
    """Let errors speak of arguments instead of options; a decorator too."""
    try:
        yield
    except SortednetError as error:
        error.args = (as_arguments(str(error)),)
        raise


def as_word(value: object) -> str:
    """Quote a value, such as a path with blanks, for the command line that a message advises."""
    return shlex.quote(str(value))


def install_line(extra: str) -> str:
    """The line that installs an extra of this package, which no index has."""
    return f"pip install '.[{extra}]' in your checkout"


def listed(values: Iterable[object]) -> str:
    """Join values for a message: `0.25, 0.5, 1`."""
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)


def shortened(names: list[str] | tuple[str, ...], most: int = 5) -> str:
    """Join the first `most` names for a message, and count the others."""
    if not names:
        return "none"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return listed(names[:most]) + more
