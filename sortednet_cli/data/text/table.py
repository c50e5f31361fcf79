"""Rows of texts as read from files: columns by name, and the location of each row."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sortednet_cli.data.text.alike import hint
from sortednet_cli.data.text.raw import MAX_LINE_BYTES, is_too_long
from sortednet_cli.errors import RequestError, shortened
from sortednet_cli.spec.template import parse_template

DOCUMENT = "text"
"""Name of the only column of plain text."""
MAX_COLUMNS = 1000
_MOST_NAMED = 20


@dataclass(frozen=True)
class Table:
    """Rows of one part.

    Attributes:
        where: name of the file, for messages.
        columns: values by column name.
        lines: number of each row in its file.
        unit: what `lines` counts: line, row or document.
        plain: whether rows are documents, whose only column is used for any column name.
        class_names: class names of columns of numbers, if the file gives them.
        shards: for a part in several files, the first row and the name of each file.
    """

    where: str
    columns: dict[str, list[Any]]
    lines: Sequence[int]
    unit: str = "line"
    plain: bool = False
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shards: Sequence[tuple[int, str]] = ()

    def __len__(self) -> int:
        return len(self.lines)

    def texts(self, text: str, key: str) -> list[str]:
        """Return the texts that `data.<key>` names: a column, or a template over several columns.

        A template treats a missing value as empty.

        Raises:
            RequestError: a column is missing, or a value is not text.
        """
        template = parse_template(text)
        if template.is_column:
            (name,) = template.columns
            return self._texts(name, self.column(name, key))
        if self.plain:
            raise RequestError(
                f"data.{key}: a template needs columns, but {self.where} is plain text"
            )
        columns = {
            name: self._texts(name, ["" if v is None else v for v in self.column(name, key)])
            for name in template.columns
        }
        rows = zip(*columns.values(), strict=True)
        return [template.fill(dict(zip(columns, row, strict=True))) for row in rows]

    def column(self, name: str, key: str) -> list[Any]:
        """Return the values of the column that `data.<key>` names; RequestError if missing."""
        if self.plain:
            return self.columns[DOCUMENT]
        if name not in self.columns:
            raise RequestError(
                f"{self.where} has no column {name!r} (data.{key}); it has"
                f" {shortened(list(self.columns), _MOST_NAMED)}{hint(name, self.columns)}"
            )
        return self.columns[name]

    def location(self, row: int) -> str:
        """Name a row for a message: `train.csv, line 5`."""
        where = self.where
        if self.shards:
            where = self.shards[bisect_right(self.shards, row, key=lambda shard: shard[0]) - 1][1]
        return f"{where}, {self.unit} {self.lines[row]}"

    def _texts(self, name: str, values: list[Any]) -> list[str]:
        for row, value in enumerate(values):
            if not isinstance(value, str):
                raise RequestError(
                    f"{self.location(row)}: {name} must be text, not {type_name(value)}"
                )
            if not is_unicode(value):
                raise RequestError(f"{self.location(row)}: {name} holds half a character (\\ud...)")
            if not self.plain and any(map(is_too_long, value.split("\n"))):
                raise RequestError(
                    f"{self.location(row)}: {name} has a line longer than {MAX_LINE_BYTES:,} bytes"
                )
        return values


def concatenate(where: str, tables: list[Table]) -> Table:
    """Concatenate the files of one part; values of a column that a file lacks are None."""
    first = tables[0]
    if len(tables) == 1:
        return first
    names = dict.fromkeys(name for table in tables for name in table.columns)
    columns: dict[str, list[Any]] = {name: [] for name in names}
    lines: list[int] = []
    shards: list[tuple[int, str]] = []
    for table in tables:
        if table.class_names != first.class_names:
            raise RequestError(f"{first.where} and {table.where} name their classes differently")
        shards.append((len(lines), table.where))
        lines += table.lines
        for name in names:
            columns[name] += table.columns.get(name, [None] * len(table))
    return Table(where, columns, lines, first.unit, first.plain, first.class_names, shards)


def check_columns(where: str, count: int) -> None:
    """Raise RequestError if there are too many columns."""
    if count > MAX_COLUMNS:
        raise RequestError(f"{where} has more than {MAX_COLUMNS:,} columns")


def is_unicode(value: str) -> bool:
    """Whether text can be encoded: JSON can escape half of a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def type_name(value: object) -> str:
    """Name the type of a value, for a message."""
    return "a missing value" if value is None else type(value).__name__
