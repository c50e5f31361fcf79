"""Tables of comma- and tab-separated values."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sortednet_cli.data.text.raw import MAX_LINE_BYTES, read_lines
from sortednet_cli.data.text.table import Table, check_columns
from sortednet_cli.errors import RequestError, listed
from sortednet_cli.logs import logger

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SUFFIXES = {",": ".csv", "\t": ".tsv"}
_QUOTED_FIELD = re.compile(r'(?:^|\t)"')
Row = tuple[int, list[str]]
"""The number of a row's first line, and its fields."""


def read_csv(path: Path, where: str) -> Table:
    """Read comma-separated values; a quoted field may hold commas, quotes and newlines."""
    lines = read_lines(path, where)
    with _long_fields():
        return _table(where, _csv_rows(lines, where, ","), ",")


def read_tsv(path: Path, where: str) -> Table:
    """Read tab-separated values, with or without quoting.

    Most data sets do not quote fields: a quote is an ordinary character. Pandas, the csv module
    and spreadsheets quote a field that holds a tab, a quote or a newline. A file is theirs if
    writing its rows again with the csv module gives the same text.

    Raises:
        RequestError: both readings are possible and give different numbers of rows.
    """
    lines = read_lines(path, where)
    numbered = enumerate(_without_returns(lines), 1)
    plain = ((number, line.split("\t") if line else []) for number, line in numbered)
    quoted = _quoted(lines, where) if any(map(_QUOTED_FIELD.search, lines)) else None
    if quoted is None:
        return _table(where, plain, "\t")
    try:
        unquoted = len(_table(where, plain, "\t"))
    except RequestError:
        unquoted = None
    if unquoted not in (None, len(quoted)):
        raise RequestError(
            f"{where} is ambiguous: {len(quoted):,} rows if fields are quoted, as pandas writes"
            f" them, or {unquoted:,} if quotes are ordinary characters: save it as .csv, .jsonl or"
            " .parquet"
        )
    logger.warning("%s: quoted fields are read as pandas and spreadsheets write them", where)
    return quoted


def _quoted(lines: list[str], where: str) -> Table | None:
    """Return the table if its writer quotes fields, else None."""
    try:
        with _long_fields():
            rows = list(_csv_rows(lines, where, "\t"))
        table = _table(where, iter(rows), "\t")
    except RequestError:
        return None
    header = next(line for line in _without_returns(lines) if line)
    if all(len(name) > 1 and name[0] == name[-1] == '"' for name in header.split("\t")):
        return table  # no column name has quotes in it
    written = io.StringIO()
    csv.writer(written, delimiter="\t", lineterminator="\n").writerows(row for _, row in rows)
    same = written.getvalue().replace("\r\n", "\n").rstrip("\n")
    return table if same == "\n".join(_without_returns(lines)).rstrip("\n") else None


def _without_returns(lines: Iterable[str]) -> Iterator[str]:
    return (line.removesuffix("\r") for line in lines)


def _csv_rows(lines: list[str], where: str, delimiter: str) -> Iterator[Row]:
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, strict=True)
    start = 1
    try:
        for fields in reader:
            yield start, fields
            start = reader.line_num + 1
    except csv.Error as error:
        reason = "a carriage return outside quotes" if "new-line" in str(error) else error
        raise RequestError(f"{where}, line {start}: {reason}") from error


@contextmanager
def _long_fields() -> Iterator[None]:
    """Raise the csv module's limit on fields to ours; the limit is global to the module."""
    before = csv.field_size_limit(MAX_LINE_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _table(where: str, rows: Iterator[Row], separator: str) -> Table:
    """Make a table from rows, the first of which is the header; blank lines are skipped."""
    header = next((fields for _, fields in rows if any(map(str.strip, fields))), None)
    if header is None:
        raise RequestError(f"{where} is empty: its fields hold nothing")
    _check_header(where, header, separator)
    columns: list[list[str]] = [[] for _ in header]
    numbers: list[int] = []
    for number, fields in rows:
        if not fields or (len(header) > 1 and len(fields) == 1 and not fields[0].strip()):
            continue
        if len(fields) != len(header):
            raise RequestError(
                f"{where}, line {number}: the row has {len(fields)} fields, but the header has"
                f" {len(header)}"
            )
        numbers.append(number)
        for column, value in zip(columns, fields, strict=True):
            column.append(value)
    return Table(where, dict(zip(header, columns, strict=True)), numbers)


def _check_header(where: str, header: list[str], separator: str) -> None:
    check_columns(where, len(header))
    # Unnamed columns are an index, or left over from a spreadsheet. No spec can name them.
    counts = Counter(name for name in header if name)
    if repeated := sorted(name for name, count in counts.items() if count > 1):
        raise RequestError(f"{where} has two columns of one name: {listed(repeated)}")
    other = next((mark for mark in _SEPARATORS if mark != separator and mark in header[0]), None)
    if len(header) == 1 and other is not None:
        suffix = _SUFFIXES.get(other)
        raise RequestError(
            f"{where} has one column, {header[0]!r}: its fields seem to be separated by"
            f" {_SEPARATORS[other]}; "
            + (f"name it {suffix}" if suffix else f"save it with {_SEPARATORS[separator]}")
        )
