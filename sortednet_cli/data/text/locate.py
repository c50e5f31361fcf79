"""Read the tables of texts that a spec names, and check them against the task."""

from __future__ import annotations

from sortednet_cli.data.split import PartName
from sortednet_cli.data.text.files import TABLE_KINDS
from sortednet_cli.data.text.labels import is_unlabelled
from sortednet_cli.data.text.sources.base import TextSource
from sortednet_cli.data.text.table import Table
from sortednet_cli.errors import RequestError
from sortednet_cli.logs import logger
from sortednet_cli.spec import TextDataSpec
from sortednet_cli.spec.data_sources import data_source

WHOLE_TEXTS = ("causal-lm", "masked-lm")
Tables = dict[PartName, Table]


def locate(spec: TextDataSpec, task: str) -> tuple[str, Tables]:
    """Return the name of the data, and a table for each stored part.

    There is always a train table. If there is only one held-out table, it is the test part. For
    classification, held-out tables without public labels are dropped.

    Raises:
        RequestError: the data is missing, cannot be read or does not suit the task.
        WorkError: a download failed.
    """
    source = data_source(spec.source)
    assert isinstance(source, TextSource)
    path = source.find(spec.path)
    name, tables = source.data_name(spec.path, path), source.read(spec, path)
    if task == "classification":
        for part in [part for part in tables if part != "train"]:
            if is_unlabelled(tables[part], spec.label):
                logger.warning("%s is not used: its labels are not public", tables.pop(part).where)
    if "validation" in tables and "test" not in tables:
        tables["test"] = tables.pop("validation")
    for table in tables.values():
        if table.plain and task not in WHOLE_TEXTS:
            raise RequestError(
                f"{task} needs columns, but {table.where} is plain text: use {TABLE_KINDS}"
            )
    return name, tables
