"""From a spec to tables of texts: what its source reads, checked against the task."""

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
    """Return the name of the data, and a table for each part it comes in.

    There is always a train table; the one held-out table, if there is just one, is the test.
    Held-out ones to classify whose labels are not told are left out.

    Raises RequestError for data that are not there, cannot be read or do not suit the task, and
    WorkError if a download fails.
    """
    source = data_source(spec.source)
    assert isinstance(source, TextSource)
    place = source.find(spec.path)
    name, found = source.data_name(spec.path, place), source.read(spec, place)
    if task == "classification":
        for part in [part for part in found if part != "train"]:
            if is_unlabelled(found[part], spec.label):
                logger.warning("%s is left out: its labels are not public", found.pop(part).where)
    if "validation" in found and "test" not in found:
        found["test"] = found.pop("validation")
    for table in found.values():
        if table.plain and task not in WHOLE_TEXTS:
            raise RequestError(
                f"{task} needs columns, and {table.where} is plain text: use {TABLE_KINDS}"
            )
    return name, found
