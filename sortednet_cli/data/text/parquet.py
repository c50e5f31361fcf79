"""Tables in Parquet files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sortednet_cli.bounded import MAX_TEXT, check_regular
from sortednet_cli.data.text.raw import max_unpacked, unpacks_too_far
from sortednet_cli.data.text.table import Table, check_columns
from sortednet_cli.errors import RequestError, reason_of

_BATCH = 64


def read_parquet(path: Path, where: str) -> Table:
    """Read all columns of a Parquet file. Nested columns cannot be text and are not unpacked."""
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
    """Yield the values of columns; RequestError if they are far larger than the file."""
    from pyarrow import types  # type: ignore[import-untyped, unused-ignore]

    most = max_unpacked(path.stat().st_size)
    metadata = file.metadata
    claimed = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    # A value that takes no bytes in the file still takes a pointer of 8 bytes in a list.
    if claimed + 8 * metadata.num_rows * metadata.num_columns > most:
        raise unpacks_too_far(where)
    total = 0
    for batch in file.iter_batches(_BATCH):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if types.is_nested(column.type):  # cannot be text
                yield name, [[]] * len(column)
                continue
            # A dictionary stores a value once that may occur in every row.
            is_encoded = types.is_dictionary(column.type)
            decoded = column.dictionary_decode() if is_encoded else column
            total += decoded.nbytes
            if total > most:
                raise unpacks_too_far(where)
            yield name, decoded.to_pylist()


def _class_names(stored: bytes) -> dict[str, tuple[str, ...]]:
    """Read the class names of columns of numbers, as the package `datasets` stores them."""
    try:
        features = json.loads(stored)["info"]["features"]
        return {
            column: tuple(map(str, feature["names"]))
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
