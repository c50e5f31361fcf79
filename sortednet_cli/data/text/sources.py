"""From a spec to tables of texts: what each source is called and where it is looked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sortednet_cli.data.paths import data_path
from sortednet_cli.data.split import PARTS, PartName
from sortednet_cli.data.text.files import (
    PLAIN_SUFFIXES,
    TEXT_SUFFIXES,
    documents,
    read_file,
    read_plain,
)
from sortednet_cli.data.text.hub import read_hub
from sortednet_cli.data.text.table import Table
from sortednet_cli.errors import RequestError, listed
from sortednet_cli.spec import TextDataSpec

WHOLE_TEXTS = ("causal-lm", "masked-lm")
EXPECTED = (
    f"expected a file ({listed(TEXT_SUFFIXES)}), a folder with train.*, dev.* and test.* of"
    " these kinds, or a folder of plain texts"
)
_STEMS: dict[PartName, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("dev", "valid", "validation"),
    "test": ("test",),
}
Tables = dict[PartName, Table]


def locate(spec: TextDataSpec, task: str) -> tuple[str, Tables]:
    """Return the name of the data, and a table for each part it comes in.

    There is always a train table; the one held-out table, if there is just one, is the test.
    Raises RequestError for data that are not there, cannot be read or do not suit the task,
    and WorkError if a download fails.
    """
    name, found = _found(spec, task)
    if "validation" in found and "test" not in found:
        found["test"] = found.pop("validation")
    for table in found.values():
        if table.plain and task not in WHOLE_TEXTS:
            raise RequestError(
                f"{task} needs columns, and {table.where} is plain text: use"
                f" {listed(TEXT_SUFFIXES[: -len(PLAIN_SUFFIXES)])}"
            )
    return name, found


def _found(spec: TextDataSpec, task: str) -> tuple[str, Tables]:
    if spec.source == "pydoc":
        if spec.path is not None:
            raise RequestError(
                "data.path: the topics of Python's help are built in and take no path; for texts"
                ' of your own set data.source = "text"'
            )
        return "pydoc", {"train": _pydoc()}
    if spec.path is None:
        what = "a data set's name" if spec.source == "hub" else EXPECTED
        raise RequestError(f'data.source = "{spec.source}" needs --data PATH: {what}')
    if spec.source == "hub":
        return spec.path, read_hub(spec.path, spec.label if task == "classification" else None)
    path = data_path(spec.path)
    name = path.name or spec.source
    if path.is_dir():
        return name, _folder(path, name)
    if path.is_file():
        return name, {"train": read_file(path)}
    raise RequestError(f"data.path: {path} does not exist: {EXPECTED}")


def _pydoc() -> Table:
    from pydoc_data.topics import topics

    return documents([topics[name] for name in sorted(topics)], "pydoc")


def _folder(folder: Path, name: str) -> Tables:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        found = {part: _entry(folder, entries, _STEMS[part]) for part in PARTS}
        if found["train"] is not None:
            return {part: _read(path) for part, path in found.items() if path is not None}
        plain = [] if any(found.values()) else list(_plain_files(folder))
    except OSError as error:
        raise RequestError(f"{folder} cannot be read: {error.strerror or error}") from error
    if not plain:
        raise RequestError(f"{folder} has no train file and no plain texts: {EXPECTED}")
    return {"train": read_plain(plain, name)}


def _entry(folder: Path, entries: list[Path], stems: tuple[str, ...]) -> Path | None:
    """Find the one file, or folder of plain texts, that holds a part."""
    named = [entry for entry in entries if entry.stem.lower() in stems]
    known = [
        entry
        for entry in named
        if (entry.is_dir() and not entry.suffix) or entry.suffix.lower() in TEXT_SUFFIXES
    ]
    if len(known) > 1:
        raise RequestError(
            f"{folder} has more than one file for a part: {listed(entry.name for entry in known)}"
        )
    # One of a kind that is not known is kept too: reading it says which kinds are.
    chosen = known or [entry for entry in named if entry.is_file()]
    return chosen[0] if chosen else None


def _read(path: Path) -> Table:
    if not path.is_dir():
        return read_file(path)
    return read_plain(list(_plain_files(path)), path.name)


def _plain_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in PLAIN_SUFFIXES and not hidden and path.is_file():
            yield path
