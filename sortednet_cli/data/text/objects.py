"""Tables of JSON objects: one per line, or all in one array."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sortednet_cli.data.text.raw import check_lines, read_characters, read_lines
from sortednet_cli.data.text.table import Table, check_columns
from sortednet_cli.errors import RequestError, shortened


class _RepeatedKey(ValueError):
    """An object with two values for one key; `json` would silently drop the first."""


def read_json_lines(path: Path, where: str) -> Table:
    """Read a file with one JSON object per line."""
    return _from_lines(read_lines(path, where), where)


def read_json(path: Path, where: str) -> Table:
    """Read an array of JSON objects, or, as in some data sets of hubs, one object per line."""
    text = read_characters(path, where)
    if not text.strip():
        raise RequestError(f"{where} is empty")
    try:
        value = _parse(text)
    except json.JSONDecodeError as error:
        first, _, others = text.strip().partition("\n")
        if first.startswith("{") and others and _is_json(first):
            lines = text.split("\n")
            check_lines(lines, where, "put a document of that length into a file of its own")
            return _from_lines(lines, where)
        raise RequestError(f"{where}, line {error.lineno}: not valid JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{where}: not valid JSON: {_reason(error)}") from error
    if not isinstance(value, list):
        raise RequestError(f"{where} {_advice(value)}")
    return _table(where, enumerate(value, 1), "row")


def _from_lines(lines: Sequence[str], where: str) -> Table:
    def rows() -> Iterator[tuple[int, Any]]:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield number, _parse(line)
                except (ValueError, RecursionError) as error:
                    raise RequestError(
                        f"{where}, line {number}: not valid JSON: {_reason(error)}"
                    ) from error

    return _table(where, rows(), "line")


def _table(where: str, rows: Iterable[tuple[int, Any]], unit: str) -> Table:
    columns: dict[str, list[Any]] = {}
    numbers: list[int] = []
    for number, row in rows:
        if not isinstance(row, dict):
            raise RequestError(f"{where}, {unit} {number}: not a JSON object")
        check_columns(f"{where}, {unit} {number}", len(columns.keys() | row.keys()))
        for key in row:
            columns.setdefault(key, [None] * len(numbers))
        for key, values in columns.items():
            values.append(row.get(key))
        numbers.append(number)
    return Table(where, columns, numbers, unit)


def _parse(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_without_repeated_keys)


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise _RepeatedKey(f"an object repeats a key, one of {shortened(list(row))}")
    return row


def _is_json(line: str) -> bool:
    try:
        return isinstance(_parse(line), dict)
    except _RepeatedKey:
        return True
    except (ValueError, RecursionError):
        return False


def _reason(error: Exception) -> str:
    match error:
        case json.JSONDecodeError():
            return f"{error.msg} at character {error.colno}"
        case _RepeatedKey():
            return str(error)
        case RecursionError():
            return "nested too deep"
    return "a number with too many digits"


def _advice(value: Any) -> str:
    """Say what is wrong with JSON that is not an array, and what to do."""
    items = value.items() if isinstance(value, dict) else ()
    if arrays := [key for key, value in items if isinstance(value, list)]:
        return (
            f"is one object, not an array of rows: save the value of {shortened(arrays)} as a file"
            " of its own"
        )
    return "is not an array of objects: write [{...}, {...}], or one object per line (.jsonl)"
