"""From a spec to tables of texts: what each source is called and where it is looked for."""

from __future__ import annotations

from sortednet_cli.data.split import PartName
from sortednet_cli.data.text.files import TABLE_KINDS, documents, read_file
from sortednet_cli.data.text.folder import EXPECTED, read_folder
from sortednet_cli.data.text.hub import read_hub
from sortednet_cli.data.text.labels import is_unlabelled
from sortednet_cli.data.text.table import Table
from sortednet_cli.errors import RequestError
from sortednet_cli.logs import logger
from sortednet_cli.spec import TextDataSpec
from sortednet_cli.spec.places import find_data

WHOLE_TEXTS = ("causal-lm", "masked-lm")
Tables = dict[PartName, Table]


def locate(spec: TextDataSpec, task: str) -> tuple[str, Tables]:
    """Return the name of the data, and a table for each part it comes in.

    There is always a train table; the one held-out table, if there is just one, is the test.
    Held-out ones to classify whose labels are not told are left out.

    Raises RequestError for data that are not there, cannot be read or do not suit the task, and
    WorkError if a download fails.
    """
    name, found = _found(spec)
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


def _found(spec: TextDataSpec) -> tuple[str, Tables]:
    path = find_data(spec)
    if spec.source == "pydoc":
        return "pydoc", {"train": _pydoc()}
    if path is None:
        assert spec.path is not None
        return spec.path, read_hub(spec.path)
    name = path.name or spec.source
    if path.is_dir():
        return name, read_folder(path, name)
    if path.is_file():
        return name, {"train": read_file(path)}
    raise RequestError(f"data.path: {path} is no file or folder: {EXPECTED}")


def _pydoc() -> Table:
    from pydoc_data.topics import topics

    return documents([topics[name] for name in sorted(topics)], "pydoc")
