"""Reading one file of texts: tables by their suffix, anything plain as one document."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sortednet_cli.bounded import MAX_TEXT, check_regular, read_bounded
from sortednet_cli.data.text.table import DOCUMENT, Table
from sortednet_cli.errors import RequestError, listed

PLAIN_SUFFIXES = (".txt", ".md", ".rst")
LONGEST_LINE = 1_000_000
MAX_COLUMNS = 1000
MAX_GROWTH = 200
"""How many times its size a Parquet file may unpack to, beyond `FREE_GROWTH` bytes."""
FREE_GROWTH = 1 << 28
_BATCH = 64
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_file(path: Path) -> Table:
    """Read a file by its suffix.

    Raises RequestError, with the file and where possible the line, for a suffix that is not
    known, a file that is empty, unreadable or not UTF-8, and rows that are not as its form
    demands.
    """
    suffix = path.suffix.lower()
    if suffix in PLAIN_SUFFIXES:
        return read_plain([path], path.name)
    if suffix not in _READERS:
        raise RequestError(
            f"{path.name} is of no known kind; the suffixes are {listed(TEXT_SUFFIXES)}"
        )
    table = _READERS[suffix](path)
    if not len(table):
        raise RequestError(f"{path.name} has no rows")
    return table


def read_plain(paths: list[Path], where: str) -> Table:
    """Read files as one document each; those with nothing in them are left out."""
    texts = []
    for path in paths:
        text = _decoded(path)
        # A tokenizer takes minutes for a word of a megabyte: such a file is hardly a text.
        _check_lines(path, text.split("\n"), "break it into lines")
        if text.strip():
            texts.append(text)
    if not texts:
        raise RequestError(f"{where} is empty")
    return documents(texts, where)


def documents(texts: list[str], where: str) -> Table:
    """Make a table of whole documents."""
    return Table(where, {DOCUMENT: texts}, range(1, len(texts) + 1), "document", plain=True)


def _decoded(path: Path) -> str:
    try:
        data = read_bounded(path, MAX_TEXT)
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror or error}") from error
    data = data.removeprefix(_BYTE_ORDER_MARK)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RequestError(f"{path.name}, line {line}: not valid UTF-8") from error


def _lines(path: Path) -> list[str]:
    """Read lines without their ends; RequestError for an empty file or a line too long."""
    text = _decoded(path)
    if not text.strip():
        raise RequestError(f"{path.name} is empty")
    lines = text.split("\n")
    _check_lines(path, lines, "a document of that length belongs into a file of its own")
    return [line.removesuffix("\r") for line in lines]


def _check_lines(path: Path, lines: list[str], advice: str) -> None:
    for number, line in enumerate(lines, 1):
        # A character has at most 4 bytes: few lines need to be encoded to be measured.
        if len(line) * 4 > LONGEST_LINE and len(line.encode()) > LONGEST_LINE:
            raise RequestError(
                f"{path.name}, line {number}: longer than {LONGEST_LINE:,} bytes; {advice}"
            )


def _read_csv(path: Path) -> Table:
    # The limit is the module's, not a reader's; fields are bounded by LONGEST_LINE here.
    before = csv.field_size_limit(LONGEST_LINE)
    try:
        reader = csv.reader(io.StringIO("\n".join(_lines(path)), newline=""), strict=True)
        return _rows(path.name, _numbered(path.name, reader))
    finally:
        csv.field_size_limit(before)


def _numbered(name: str, reader: Any) -> Iterator[tuple[int, list[str]]]:
    start = 1
    try:
        for fields in reader:
            yield start, fields
            start = reader.line_num + 1
    except csv.Error as error:
        raise RequestError(f"{name}, line {start}: {error}") from error


def _read_tsv(path: Path) -> Table:
    lines = enumerate(_lines(path), 1)
    return _rows(path.name, ((number, line.split("\t") if line else []) for number, line in lines))


def _rows(name: str, rows: Iterator[tuple[int, list[str]]]) -> Table:
    """Make a table of numbered rows, the first the header; rows with no fields are skipped."""
    rows = ((number, fields) for number, fields in rows if fields)
    _, header = next(rows)
    _check_columns(name, len(header))
    if twice := sorted(column for column, count in Counter(header).items() if count > 1):
        raise RequestError(f"{name} has two columns of one name: {listed(twice)}")
    columns: list[list[str]] = [[] for _ in header]
    numbers: list[int] = []
    for number, fields in rows:
        if len(fields) != len(header):
            raise RequestError(
                f"{name}, line {number}: the row and the header differ in fields,"
                f" {len(fields)} against {len(header)}"
            )
        numbers.append(number)
        for column, value in zip(columns, fields, strict=True):
            column.append(value)
    return Table(name, dict(zip(header, columns, strict=True)), numbers)


def _read_jsonl(path: Path) -> Table:
    columns: dict[str, list[Any]] = {}
    numbers: list[int] = []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"{path.name}, line {number}: not valid JSON") from error
        if not isinstance(row, dict):
            raise RequestError(f"{path.name}, line {number}: not a JSON object")
        _check_columns(f"{path.name}, line {number}", len(columns.keys() | row.keys()))
        for key in row:
            columns.setdefault(key, [None] * len(numbers))
        for key, values in columns.items():
            values.append(row.get(key))
        numbers.append(number)
    return Table(path.name, columns, numbers)


def _read_parquet(path: Path) -> Table:
    import pyarrow  # type: ignore[import-untyped, unused-ignore]
    from pyarrow import parquet  # type: ignore[import-untyped, unused-ignore]

    columns: dict[str, list[Any]] = {}
    try:
        check_regular(path, MAX_TEXT)
        with path.open("rb") as raw, parquet.ParquetFile(raw) as file:
            names = file.schema_arrow.names
            _check_columns(path.name, len(names))
            if len(set(names)) != len(names):
                raise RequestError(f"{path.name} has two columns of one name")
            columns = {name: [] for name in names}
            for name, values in _bounded_values(path, file):
                columns[name] += values
    except (pyarrow.ArrowException, OSError, OverflowError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RequestError(f"{path.name} cannot be read as parquet: {reason}") from error
    num_rows = len(next(iter(columns.values()), []))
    return Table(path.name, columns, range(1, num_rows + 1), "row")


def _bounded_values(path: Path, file: Any) -> Iterator[tuple[str, list[Any]]]:
    """Values of columns, until they are far more than so small a file holds honestly."""
    from pyarrow import types  # type: ignore[import-untyped, unused-ignore]

    most = min(MAX_TEXT, max(FREE_GROWTH, MAX_GROWTH * path.stat().st_size))
    too_much = RequestError(f"{path.name} unpacks to more than {MAX_GROWTH} times its size")
    facts = file.metadata
    claimed = sum(facts.row_group(i).total_byte_size for i in range(facts.num_row_groups))
    # A value that costs the file nothing costs a list of Python's its place all the same.
    if claimed + 8 * facts.num_rows * facts.num_columns > most:
        raise too_much
    total = 0
    for batch in file.iter_batches(_BATCH):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if types.is_nested(column.type):  # no text, whatever is in it
                yield name, [[]] * len(column)
                continue
            # A word that is stored once may stand in every row.
            is_coded = types.is_dictionary(column.type)
            found = column.dictionary_decode() if is_coded else column
            total += found.nbytes
            if total > most:
                raise too_much
            yield name, found.to_pylist()


def _check_columns(where: str, count: int) -> None:
    if count > MAX_COLUMNS:
        raise RequestError(f"{where}: more than {MAX_COLUMNS:,} columns")


_READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
TEXT_SUFFIXES = (*_READERS, *PLAIN_SUFFIXES)
