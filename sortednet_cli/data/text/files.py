"""Read one file of texts by its suffix: a table, or plain text as one document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sortednet_cli.data.text.delimited import read_csv, read_tsv
from sortednet_cli.data.text.objects import read_json, read_json_lines
from sortednet_cli.data.text.parquet import read_parquet
from sortednet_cli.data.text.raw import check_lines, read_characters
from sortednet_cli.data.text.table import DOCUMENT, Table
from sortednet_cli.errors import RequestError, listed, shortened
from sortednet_cli.logs import logger

_READERS: dict[str, Callable[[Path, str], Table]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".parquet": read_parquet,
}
_PACKED = {f"{suffix}.gz": read for suffix, read in _READERS.items() if suffix != ".parquet"}
_TABLES = {**_READERS, **_PACKED}
PLAIN_SUFFIXES = (".txt", ".txt.gz", ".md", ".rst")
KINDS = f"{listed([*_READERS, '.txt', '.md', '.rst'])}, and all but .parquet, .md and .rst as .gz"
"""The suffixes that can be read, for messages."""
TABLE_KINDS = f"{listed(_READERS)}, and all but .parquet as .gz"


def split_name(name: str) -> tuple[str, str] | None:
    """Split a file's name into stem and suffix; None if the suffix is not one that can be read."""
    for suffix in (*_TABLES, *PLAIN_SUFFIXES):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)], name[-len(suffix) :].lower()
    return None


def is_table(suffix: str) -> bool:
    return suffix in _TABLES


def read_file(path: Path, where: str | None = None) -> Table:
    """Read a file by its suffix.

    Raises:
        RequestError: the suffix is unknown, the file is empty, unreadable or not UTF-8, or a row
            is malformed. The message names `where` (by default the file's name) and, if it can,
            the line.
    """
    where = where or path.name
    named = split_name(path.name)
    if named is None:
        raise RequestError(f"{where} has an unknown suffix; the suffixes are {KINDS}")
    _, suffix = named
    if suffix in PLAIN_SUFFIXES:
        return read_plain([path], where)
    table = _TABLES[suffix](path, where)
    if not len(table):
        raise RequestError(f"{where} has no rows")
    return table


def read_plain(paths: Sequence[Path], where: str) -> Table:
    """Read each file as one document; empty files are skipped with a warning."""
    texts = []
    empty = []
    for path in paths:
        text = read_characters(path, path.name)
        check_lines(text.split("\n"), path.name, "break it into lines")
        if text.strip():
            texts.append(text)
        else:
            empty.append(path.name)
    if not texts:
        raise RequestError(f"{where} is empty")
    if empty:
        logger.warning("%s: skipped empty files: %s", where, shortened(empty))
    return documents(texts, where)


def documents(texts: list[str], where: str) -> Table:
    """Make a table of documents."""
    return Table(where, {DOCUMENT: texts}, range(1, len(texts) + 1), "document", plain=True)
