"""Read data sets of the Hugging Face hub, with the package `datasets` if it is installed."""

from __future__ import annotations

from typing import Any

from sortednet_cli.data.part_names import part_named
from sortednet_cli.data.split import PartName
from sortednet_cli.data.text.table import Table
from sortednet_cli.errors import RequestError, WorkError, install_line, listed, reason_of, shortened
from sortednet_cli.logs import logger


def read_hub(path: str) -> dict[PartName, Table]:
    """Read the splits of `name` or `name:config` that are parts; other splits are logged.

    Raises:
        RequestError: `datasets` is not installed, or there is no train split.
        WorkError: the data cannot be downloaded.
    """
    try:
        import datasets  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise RequestError(
            f'data.source = "hub" needs the package datasets: {install_line("hub")}'
        ) from error
    name, _, config = path.partition(":")
    try:
        loaded = datasets.load_dataset(name, config or None)
    except Exception as error:  # a download, a builder or a server can fail in any way
        reason = reason_of(error)
        raise WorkError(f"the data set {path} could not be downloaded: {reason}") from error
    splits: dict[PartName, str] = {}
    for split in loaded:
        if part := part_named(split):
            splits.setdefault(part, split)
    if "train" not in splits:
        raise RequestError(f"{path} has no train split, only {listed(loaded)}")
    if unused := [split for split in loaded if split not in splits.values()]:
        logger.warning("%s: splits not read: %s", path, shortened(unused))
    return {part: _table(f"{path} {split}", loaded[split]) for part, split in splits.items()}


def _table(where: str, rows: Any) -> Table:
    columns = {name: list(rows[name]) for name in rows.column_names}
    names = {
        column: tuple(feature.names)
        for column, feature in rows.features.items()
        if getattr(feature, "names", None)
    }
    return Table(where, columns, range(1, len(rows) + 1), "row", class_names=names)
