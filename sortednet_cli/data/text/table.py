"""One file of texts as read: columns by name, and where each row stood."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sortednet_cli.data.format import shortened
from sortednet_cli.errors import RequestError

DOCUMENT = "text"
"""The one column of plain text."""

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_MOST_NAMED = 20


@dataclass(frozen=True)
class Table:
    """Rows of one part.

    `where` says for messages which file it was; `lines` numbers the rows, lines of a text
    file or rows of another, as `unit` says. `plain` marks whole documents, whose one column
    answers to any name.
    """

    where: str
    columns: dict[str, list[Any]]
    lines: Sequence[int]
    unit: str = "line"
    plain: bool = False

    def __len__(self) -> int:
        return len(self.lines)

    def texts(self, name: str) -> list[str]:
        """Return a column of texts; RequestError for a value that is none."""
        values = self._column(name)
        for row, value in enumerate(values):
            if not isinstance(value, str):
                raise RequestError(f"{self.place(row)}: {name} is not text, it is {_kind(value)}")
            if not _is_unicode(value):
                raise RequestError(f"{self.place(row)}: {name} holds half a character (\\ud...)")
        return values

    def labels(self, name: str) -> list[str]:
        """Return a column of labels as strings; RequestError for a value that is no label."""
        return [self._label(row, name, value) for row, value in enumerate(self._column(name))]

    def place(self, row: int) -> str:
        """Name a row for a message: `train.csv, line 5`."""
        return f"{self.where}, {self.unit} {self.lines[row]}"

    def _column(self, name: str) -> list[Any]:
        if self.plain:
            return self.columns[DOCUMENT]
        if name not in self.columns:
            raise RequestError(
                f"{self.where} has no column {name!r}; it has"
                f" {shortened(list(self.columns), _MOST_NAMED)}"
            )
        return self.columns[name]

    def _label(self, row: int, name: str, value: object) -> str:
        label = str(int(value)) if isinstance(value, int) else value
        if not isinstance(label, str):
            raise RequestError(
                f"{self.place(row)}: {name} is neither text nor an integer, it is {_kind(value)}"
            )
        if _INTEGER.fullmatch(label) and label.startswith("-"):
            raise RequestError(
                f"{self.place(row)}: {name} = {label} is outside the range of classes, which"
                " begins at 0; is the file unlabelled?"
            )
        return label


def classes_of(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct labels, sorted; integers as integers."""
    distinct = set(labels)
    if all(_INTEGER.fullmatch(label) for label in distinct):
        return tuple(sorted(distinct, key=int))
    return tuple(sorted(distinct))


def _is_unicode(value: str) -> bool:
    """JSON can escape half of a surrogate pair, which no encoding can write."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: object) -> str:
    return "missing" if value is None else type(value).__name__
