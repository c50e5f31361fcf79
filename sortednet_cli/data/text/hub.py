"""Data sets of the Hugging Face hub, read with `datasets` if it is installed."""

from __future__ import annotations

from typing import Any

from sortednet_cli.data.split import PartName
from sortednet_cli.data.text.table import Table
from sortednet_cli.errors import RequestError, WorkError, listed
from sortednet_cli.logs import logger

_SPLITS: dict[str, PartName] = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "dev": "validation",
    "test": "test",
}


def read_hub(path: str, label: str | None) -> dict[PartName, Table]:
    """Read the splits of `name` or `name:config`, less held-out ones without their labels.

    The labels are those of the column `label`, -1 where a benchmark keeps them to itself.

    Raises RequestError if `datasets` is not installed or there is no train split, and
    WorkError if the data cannot be fetched.
    """
    try:
        import datasets  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise RequestError(
            "data.source = \"hub\" needs the package datasets: pip install 'sortednet-cli[hub]'"
        ) from error
    name, _, config = path.partition(":")
    try:
        found = datasets.load_dataset(name, config or None)
    except Exception as error:  # a download, a builder or a server can fail in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WorkError(f"the data set {path} could not be fetched: {reason}") from error
    tables: dict[PartName, Table] = {}
    for split, rows in found.items():
        if split in _SPLITS:
            table = _table(f"{path} {split}", rows)
            if split != "train" and _unlabelled(table, label):
                logger.warning("%s is left out: its labels are not public", table.where)
            else:
                tables.setdefault(_SPLITS[split], table)
    if "train" not in tables:
        raise RequestError(f"{path} has no train split, only {listed(found)}")
    return tables


def _table(where: str, rows: Any) -> Table:
    columns = {name: list(rows[name]) for name in rows.column_names}
    return Table(where, columns, range(1, len(rows) + 1), "row")


def _unlabelled(table: Table, label: str | None) -> bool:
    values = table.columns.get(label, []) if label is not None else []
    return bool(values) and all(value == -1 for value in values)
