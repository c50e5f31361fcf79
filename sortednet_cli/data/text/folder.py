"""Which files of a folder hold which part: `train.csv`, `data/train-00000-of-00002.parquet`."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

from sortednet_cli.data.limits import MAX_FILES, MAX_LEVELS
from sortednet_cli.data.part_names import part_named
from sortednet_cli.data.split import PARTS, PartName
from sortednet_cli.data.text.files import KINDS, is_table, read_file, read_plain, split_name
from sortednet_cli.data.text.shards import in_order, split_of
from sortednet_cli.data.text.table import Table, joined
from sortednet_cli.errors import RequestError, shortened
from sortednet_cli.logs import logger

EXPECTED = (
    f"expected a file ({KINDS}), a folder with train.*, val.* and test.* of these kinds, the"
    " snapshot of a hub's data set, or a folder of plain texts"
)
_DEEPEST = 2
"""Folders around a data set inside of what a hub gives: `data/CONFIGURATION/`."""
_ABOUT = re.compile(r"(readme|licen[sc]e|copying|notice)(?![a-z])", re.IGNORECASE)
"""Texts about a data set: where there are tables, or nothing else, they are not trained on."""
_FACTS = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json")
_PAGES = (".md", ".rst")
"""A page called training.md is a page about training, not a part."""
_CODE = (".py", ".sh", ".ipynb", ".toml", ".yaml", ".yml", ".log")
_MOST_SHOWN = 8


def read_folder(folder: Path, name: str) -> dict[PartName, Table]:
    """Read the parts that a folder holds: always a train part.

    Every file of a kind that is read, and is not read here, is told. Raises RequestError where
    there is nothing to train on, or more than one thing, and where a file is wrong.
    """
    try:
        files = _files(folder)
        parts = _parts(files, folder)
        if parts:
            tables = {part: _read(folder, found) for part, found in parts.items()}
        else:
            parts = {"train": _plain_texts(files, folder, name)}
            tables = {"train": read_plain([folder / file for file in parts["train"]], name)}
    except OSError as error:
        raise RequestError(f"{folder} cannot be read: {error.strerror or error}") from error
    read = {file for found in parts.values() for file in found}
    if left := [file for file in files if _is_data(file) and file not in read]:
        logger.warning("%s: not read: %s", name, shortened(left, _MOST_SHOWN))
    return tables


def _read(folder: Path, files: Sequence[str]) -> Table:
    if all(_is_plain(file) for file in files):
        return read_plain([folder / file for file in files], files[0].partition("/")[0])
    where = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    return joined(where, [read_file(folder / file, file) for file in files])


def _files(folder: Path) -> list[str]:
    """List the paths of all files inside a folder that are not hidden, in order of name."""
    entries = list(islice(_entries(folder, "", frozenset()), MAX_FILES))
    if len(entries) == MAX_FILES:
        raise RequestError(f"{folder} holds more than {MAX_FILES:,} files and folders")
    files = [entry for entry in entries if not entry.endswith("/")]
    for entry in entries:
        is_part = entry.endswith("/") and part_named(entry[:-1]) is not None
        if is_part and not any(file.startswith(entry) for file in files):
            raise RequestError(f"{folder / entry} is empty")
    return files


def _entries(folder: Path, prefix: str, above: frozenset[str]) -> Iterator[str]:
    """Yield the paths of files and folders, these with a `/` at the end. Links are followed."""
    if len(above) > MAX_LEVELS:
        raise RequestError(f"{folder}: folders lie more than {MAX_LEVELS} levels deep")
    above |= {os.path.realpath(folder)}
    for entry in sorted(folder.iterdir()):
        name = prefix + entry.name
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if not entry.is_dir():
            yield name
        elif os.path.realpath(entry) not in above:
            yield f"{name}/"
            yield from _entries(entry, f"{name}/", above)


def _parts(files: Sequence[str], folder: Path) -> dict[PartName, list[str]]:
    """Find the parts in the folder itself, or in the one folder inside that has them."""
    if found := _parts_in("", files, folder):
        if "train" not in found:
            held_out = shortened([names[0] for names in found.values()])
            raise RequestError(f"{folder} has {held_out}, but no train file: {EXPECTED}")
        return found
    for depth in range(1, _DEEPEST + 1):
        folders = (file.split("/")[:-1] for file in files)
        inner = sorted({"/".join(names[:depth]) for names in folders if len(names) >= depth})
        sets = {place: _parts_in(f"{place}/", files, folder) for place in inner}
        sets = {place: parts for place, parts in sets.items() if "train" in parts}
        if len(sets) > 1:
            raise RequestError(
                f"{folder} holds several data sets, {shortened(list(sets), _MOST_SHOWN)}: name one,"
                f" as --data {folder / next(iter(sets))}"
            )
        if sets:
            return next(iter(sets.values()))
    return {}


def _parts_in(place: str, files: Sequence[str], folder: Path) -> dict[PartName, list[str]]:
    """Find the parts whose files, or folders of files, lie in `place`, which ends in `/`.

    Plain texts count in the folder itself alone.
    """
    ways: dict[PartName, list[list[str]]] = {part: [] for part in PARTS}
    own = [file for file in files if file.startswith(place) and (not place or _is_table(file))]
    for split, found in _splits(place, own).items():
        if part := part_named(split):
            ways[part] += found
    parts: dict[PartName, list[str]] = {}
    for part, found in ways.items():
        # One of a kind that is not known is kept too: reading it says which kinds are.
        known = [names for names in found if split_name(names[0])] or found
        if len(known) > 1:
            several = shortened([names[0] for names in known])
            raise RequestError(f"{folder} has more than one file for a part: {several}")
        if known:
            parts[part] = in_order(known[0])
    return parts


def _splits(place: str, files: Sequence[str]) -> dict[str, list[list[str]]]:
    """Group files by split: one file, the shards of one, or those in a folder of its name."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for file in files:
        head, slash, _ = file.removeprefix(place).partition("/")
        stem, kind = split_name(head) or (PurePosixPath(head).stem, PurePosixPath(head).suffix)
        if slash:
            groups[head, slash].append(file)
        elif kind not in (*_PAGES, *_CODE):
            groups[split_of(stem), kind].append(file)
    splits: dict[str, list[list[str]]] = defaultdict(list)
    for (split, kind), names in groups.items():
        splits[split].append(_of_folder(f"{place}{split}/", names) if kind == "/" else names)
    return splits


def _of_folder(place: str, files: list[str]) -> list[str]:
    """Of the files in a part's folder: its tables, or else all plain texts, or else all."""
    tables = [file for file in files if _is_table(file) and "/" not in file.removeprefix(place)]
    return tables or [file for file in files if _is_plain(file)] or files


def _plain_texts(files: Sequence[str], folder: Path, name: str) -> list[str]:
    """Choose the plain texts of a folder without parts; RequestError if there are none."""
    plain = [file for file in files if _is_plain(file)]
    about = [file for file in plain if _is_about(file)]
    if len(about) < len(plain):
        pages = [file for file in plain if part_named(_stem(file))]
        if named := about + pages:
            logger.warning(
                "%s: %d plain texts are read, among them %s", name, len(plain), shortened(named)
            )
        return plain
    if tables := [file for file in files if _is_table(file)]:
        raise RequestError(
            f"{folder} has no train file, but tables of other names, {shortened(tables)}: rename"
            f" one to train.*, or read it alone: --data {folder / tables[0]}"
        )
    if about:
        raise RequestError(
            f"{folder} has no texts but {shortened(about)}: to train on it, name it:"
            f" --data {folder / about[0]}"
        )
    raise RequestError(f"{folder} has no train file and no plain texts: {EXPECTED}")


def _is_table(file: str) -> bool:
    named = split_name(file)
    return named is not None and is_table(named[1]) and PurePosixPath(file).name not in _FACTS


def _is_plain(file: str) -> bool:
    named = split_name(file)
    return named is not None and not is_table(named[1])


def _is_about(file: str) -> bool:
    return _ABOUT.match(_stem(file)) is not None


def _is_data(file: str) -> bool:
    """Whether a file is of a kind that is read, and nothing about the data set."""
    return _is_table(file) or (_is_plain(file) and not _is_about(file))


def _stem(file: str) -> str:
    name = PurePosixPath(file).name
    return (split_name(name) or (name, ""))[0]
