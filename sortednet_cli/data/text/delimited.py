"""Tables of comma- and tab-separated values."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sortednet_cli.data.text.raw import LONGEST_LINE, read_lines
from sortednet_cli.data.text.table import Table, check_columns
from sortednet_cli.errors import RequestError, listed
from sortednet_cli.logs import logger

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SUFFIXES = {",": ".csv", "\t": ".tsv"}
_QUOTED_FIELD = re.compile(r'(?:^|\t)"')
Row = tuple[int, list[str]]
"""The line that a row begins at, and its fields."""


def read_csv(path: Path, where: str) -> Table:
    """Read comma-separated values; a field in quotes may hold commas, quotes and line ends."""
    lines = read_lines(path, where)
    with _long_fields():
        return _table(where, _csv_rows(lines, where, ","), ",")


def read_tsv(path: Path, where: str) -> Table:
    """Read tab-separated values, in the form that the file has.

    Most data sets have no quoting: a quote is a quote. pandas, the csv module and spreadsheets put
    a field into quotes if it holds a tab, a quote or a line end. A file that they wrote is told by
    this: they would write its rows again just as they are. RequestError if it can be read without
    quoting too, and has another number of rows then.
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
            f"{where} can be read in two ways: {len(quoted):,} rows with fields in quotes, as"
            f" pandas writes them, or {unquoted:,} in which a quote is a quote: save it as .csv,"
            " .jsonl or .parquet"
        )
    logger.warning("%s: fields in quotes are read as pandas and spreadsheets write them", where)
    return quoted


def _quoted(lines: list[str], where: str) -> Table | None:
    """The table, if a writer that quotes wrote it; None if there is one that did not."""
    try:
        with _long_fields():
            rows = list(_csv_rows(lines, where, "\t"))
        table = _table(where, iter(rows), "\t")
    except RequestError:
        return None
    header = next(line for line in _without_returns(lines) if line)
    if all(len(name) > 1 and name[0] == name[-1] == '"' for name in header.split("\t")):
        return table  # nobody's columns are called so
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
        what = "a carriage return outside quotes" if "new-line" in str(error) else error
        raise RequestError(f"{where}, line {start}: {what}") from error


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let the csv module read what we do: its limit is the module's own, not a reader's."""
    before = csv.field_size_limit(LONGEST_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _table(where: str, rows: Iterator[Row], separator: str) -> Table:
    """Make a table of rows, the first the header; blank lines are skipped."""
    _, header = next(row for row in rows if any(map(str.strip, row[1])))
    _check_header(where, header, separator)
    columns: list[list[str]] = [[] for _ in header]
    numbers: list[int] = []
    for number, fields in rows:
        if not fields or (len(header) > 1 and len(fields) == 1 and not fields[0].strip()):
            continue
        if len(fields) != len(header):
            raise RequestError(
                f"{where}, line {number}: the row and the header differ in fields,"
                f" {len(fields)} against {len(header)}"
            )
        numbers.append(number)
        for column, value in zip(columns, fields, strict=True):
            column.append(value)
    return Table(where, dict(zip(header, columns, strict=True)), numbers)


def _check_header(where: str, header: list[str], separator: str) -> None:
    check_columns(where, len(header))
    # Those without a name are an index, or what a spreadsheet left: nothing can ask for them.
    counts = Counter(name for name in header if name)
    if twice := sorted(name for name, count in counts.items() if count > 1):
        raise RequestError(f"{where} has two columns of one name: {listed(twice)}")
    other = next((mark for mark in _SEPARATORS if mark != separator and mark in header[0]), None)
    if len(header) == 1 and other is not None:
        suffix = _SUFFIXES.get(other)
        raise RequestError(
            f"{where} has one column, {header[0]!r}: its fields seem to be separated by"
            f" {_SEPARATORS[other]}; "
            + (f"name it {suffix}" if suffix else f"save it with {_SEPARATORS[separator]}")
        )
