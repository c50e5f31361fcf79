"""One file of texts as read: columns by name, and where each row stood."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sortednet_cli.data.text.alike import hint
from sortednet_cli.data.text.raw import LONGEST_LINE, is_too_long
from sortednet_cli.errors import RequestError, shortened
from sortednet_cli.spec.template import parse_template

DOCUMENT = "text"
"""The one column of plain text."""
MAX_COLUMNS = 1000
_MOST_NAMED = 20


@dataclass(frozen=True)
class Table:
    """Rows of one part.

    `where` says for messages which file it was; `lines` numbers the rows, lines of a text
    file or rows of another, as `unit` says. `plain` marks whole documents, whose one column
    answers to any name. `class_names` holds the names of a column's numbers where the file
    tells them. `shards` are the files of a part in many: the row each begins at, and its name.
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
        """Return the texts that `data.<key>` asks for: a column, or a template over several.

        An empty optional column of a template may be missing too. RequestError for a column
        that is not there and a value that is no text.
        """
        template = parse_template(text)
        if template.is_column:
            (name,) = template.columns
            return self._texts(name, self.column(name, key))
        if self.plain:
            raise RequestError(
                f"data.{key}: a template needs columns, and {self.where} is plain text"
            )
        columns = {
            name: self._texts(name, ["" if v is None else v for v in self.column(name, key)])
            for name in template.columns
        }
        rows = zip(*columns.values(), strict=True)
        return [template.fill(dict(zip(columns, row, strict=True))) for row in rows]

    def column(self, name: str, key: str) -> list[Any]:
        """Return the values of a column, which `data.<key>` asks for."""
        if self.plain:
            return self.columns[DOCUMENT]
        if name not in self.columns:
            raise RequestError(
                f"{self.where} has no column {name!r} (data.{key}); it has"
                f" {shortened(list(self.columns), _MOST_NAMED)}{hint(name, self.columns)}"
            )
        return self.columns[name]

    def place(self, row: int) -> str:
        """Name a row for a message: `train.csv, line 5`."""
        where = self.where
        if self.shards:
            where = self.shards[bisect_right(self.shards, row, key=lambda shard: shard[0]) - 1][1]
        return f"{where}, {self.unit} {self.lines[row]}"

    def _texts(self, name: str, values: list[Any]) -> list[str]:
        for row, value in enumerate(values):
            if not isinstance(value, str):
                raise RequestError(f"{self.place(row)}: {name} is not text, it is {kind(value)}")
            if not is_unicode(value):
                raise RequestError(f"{self.place(row)}: {name} holds half a character (\\ud...)")
            if not self.plain and any(map(is_too_long, value.split("\n"))):
                raise RequestError(
                    f"{self.place(row)}: {name} has a line longer than {LONGEST_LINE:,} bytes"
                )
        return values


def joined(where: str, tables: list[Table]) -> Table:
    """Put the files of one part end to end; where one lacks a column, its values are missing."""
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
    """Raise RequestError for more columns than any table of texts has."""
    if count > MAX_COLUMNS:
        raise RequestError(f"{where}: more than {MAX_COLUMNS:,} columns")


def is_unicode(value: str) -> bool:
    """JSON can escape half of a surrogate pair, which no encoding can write."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def kind(value: object) -> str:
    """Name the kind of a value for a message."""
    return "missing" if value is None else type(value).__name__
