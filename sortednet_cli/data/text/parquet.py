"""Tables in Parquet files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sortednet_cli.bounded import MAX_TEXT, check_regular
from sortednet_cli.data.text.raw import most_unpacked, unpacks_too_far
from sortednet_cli.data.text.table import Table, check_columns
from sortednet_cli.errors import RequestError, reason_of

_BATCH = 64


def read_parquet(path: Path, where: str) -> Table:
    """Read all columns of a Parquet file; what is nested is no text, and is not unpacked."""
    import pyarrow  # type: ignore[import-untyped, unused-ignore]
    from pyarrow import parquet  # type: ignore[import-untyped, unused-ignore]

    columns: dict[str, list[Any]] = {}
    try:
        check_regular(path, MAX_TEXT)
        with path.open("rb") as raw, parquet.ParquetFile(raw) as file:
            schema = file.schema_arrow
            check_columns(where, len(schema.names))
            if len(set(schema.names)) != len(schema.names):
                raise RequestError(f"{where} has two columns of one name")
            columns = {name: [] for name in schema.names}
            for name, values in _bounded_values(path, where, file):
                columns[name] += values
            class_names = _class_names((schema.metadata or {}).get(b"huggingface", b"{}"))
    except (pyarrow.ArrowException, OSError, OverflowError, ValueError) as error:
        raise RequestError(f"{where} cannot be read as parquet: {reason_of(error)}") from error
    num_rows = len(next(iter(columns.values()), []))
    return Table(where, columns, range(1, num_rows + 1), "row", class_names=class_names)


def _bounded_values(path: Path, where: str, file: Any) -> Iterator[tuple[str, list[Any]]]:
    """Values of columns, until they are far more than so small a file holds honestly."""
    from pyarrow import types  # type: ignore[import-untyped, unused-ignore]

    most = most_unpacked(path.stat().st_size)
    facts = file.metadata
    claimed = sum(facts.row_group(i).total_byte_size for i in range(facts.num_row_groups))
    # A value that costs the file nothing costs a list of Python's its place all the same.
    if claimed + 8 * facts.num_rows * facts.num_columns > most:
        raise unpacks_too_far(where)
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
                raise unpacks_too_far(where)
            yield name, found.to_pylist()


def _class_names(stored: bytes) -> dict[str, tuple[str, ...]]:
    """Read what the numbers of a column stand for, as `datasets` stores it."""
    try:
        features = json.loads(stored)["info"]["features"]
        return {
            column: tuple(map(str, feature["names"]))
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
