"""Find the files of a folder that hold each part: `train.csv`, `data/train-00000-of-00002.parquet`.

A part may be one file, several shards, or a folder of files.
"""

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
from sortednet_cli.data.text.table import Table, concatenate
from sortednet_cli.errors import RequestError, shortened
from sortednet_cli.logs import logger

EXPECTED = (
    f"expected a file ({KINDS}), a folder with train.*, val.* and test.* of these kinds, the"
    " snapshot of a hub's data set, or a folder of plain texts"
)
_DEEPEST = 2
"""Most levels of folders around a data set in a snapshot of the hub: `data/CONFIGURATION/`."""
_ABOUT = re.compile(r"(readme|licen[sc]e|copying|notice)(?![a-z])", re.IGNORECASE)
"""Texts about a data set: they are not trained on beside tables, or if there is nothing else."""
_FACTS = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json")
_PAGES = (".md", ".rst")
"""Suffixes of pages: training.md is a page about training, not a part."""
_CODE = (".py", ".sh", ".ipynb", ".toml", ".yaml", ".yml", ".log")
_MOST_SHOWN = 8


def read_folder(folder: Path, name: str) -> dict[PartName, Table]:
    """Read the parts in a folder; there is always a train part.

    Readable files that are not used are logged.

    Raises:
        RequestError: there is no train part, there is more than one, or a file is malformed.
    """
    try:
        files = _files(folder)
        parts = _parts(files, folder)
        if parts:
            tables = {part: _read(folder, names) for part, names in parts.items()}
        else:
            parts = {"train": _plain_texts(files, folder, name)}
            tables = {"train": read_plain([folder / file for file in parts["train"]], name)}
    except OSError as error:
        raise RequestError(f"{folder} cannot be read: {error.strerror or error}") from error
    used = {file for names in parts.values() for file in names}
    if unused := [file for file in files if _is_data(file) and file not in used]:
        logger.warning("%s: not read: %s", name, shortened(unused, _MOST_SHOWN))
    return tables


def _read(folder: Path, files: Sequence[str]) -> Table:
    if all(_is_plain(file) for file in files):
        return read_plain([folder / file for file in files], files[0].partition("/")[0])
    where = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    return concatenate(where, [read_file(folder / file, file) for file in files])


def _files(folder: Path) -> list[str]:
    """List the paths of all files in a folder that are not hidden, sorted by name."""
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
    """Yield the paths of files, and of folders with a final `/`. Links are followed."""
    if len(above) > MAX_LEVELS:
        raise RequestError(f"{folder}: folders are nested more than {MAX_LEVELS} levels deep")
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
    """Find the parts in the folder itself, or in the only folder inside it that has them."""
    if parts := _parts_in("", files, folder):
        if "train" not in parts:
            held_out = shortened([names[0] for names in parts.values()])
            raise RequestError(f"{folder} has {held_out}, but no train file: {EXPECTED}")
        return parts
    for depth in range(1, _DEEPEST + 1):
        folders = (file.split("/")[:-1] for file in files)
        inner = sorted({"/".join(names[:depth]) for names in folders if len(names) >= depth})
        sets = {path: _parts_in(f"{path}/", files, folder) for path in inner}
        sets = {path: parts for path, parts in sets.items() if "train" in parts}
        if len(sets) > 1:
            raise RequestError(
                f"{folder} holds several data sets, {shortened(list(sets), _MOST_SHOWN)}: name one,"
                f" as --data {folder / next(iter(sets))}"
            )
        if sets:
            return next(iter(sets.values()))
    return {}


def _parts_in(prefix: str, files: Sequence[str], folder: Path) -> dict[PartName, list[str]]:
    """Find the parts among files, or folders of files, directly under `prefix`, which ends in `/`.

    Plain texts count only in the folder itself, where `prefix` is empty.
    """
    candidates: dict[PartName, list[list[str]]] = {part: [] for part in PARTS}
    inside = [file for file in files if file.startswith(prefix) and (not prefix or _is_table(file))]
    for split, groups in _splits(prefix, inside).items():
        if part := part_named(split):
            candidates[part] += groups
    parts: dict[PartName, list[str]] = {}
    for part, groups in candidates.items():
        # Keep an unreadable file if it is the only one: reading it names the legal suffixes.
        readable = [names for names in groups if split_name(names[0])] or groups
        if len(readable) > 1:
            several = shortened([names[0] for names in readable])
            raise RequestError(f"{folder} has more than one file for a part: {several}")
        if readable:
            parts[part] = in_order(readable[0])
    return parts


def _splits(prefix: str, files: Sequence[str]) -> dict[str, list[list[str]]]:
    """Group files by split: one file, its shards, or the files in a folder of its name."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for file in files:
        head, slash, _ = file.removeprefix(prefix).partition("/")
        stem, kind = split_name(head) or (PurePosixPath(head).stem, PurePosixPath(head).suffix)
        if slash:
            groups[head, slash].append(file)
        elif kind not in (*_PAGES, *_CODE):
            groups[split_of(stem), kind].append(file)
    splits: dict[str, list[list[str]]] = defaultdict(list)
    for (split, kind), names in groups.items():
        splits[split].append(_of_folder(f"{prefix}{split}/", names) if kind == "/" else names)
    return splits


def _of_folder(prefix: str, files: list[str]) -> list[str]:
    """Choose from the files in a part's folder: tables if any, else plain texts, else all."""
    tables = [file for file in files if _is_table(file) and "/" not in file.removeprefix(prefix)]
    return tables or [file for file in files if _is_plain(file)] or files


def _plain_texts(files: Sequence[str], folder: Path, name: str) -> list[str]:
    """Choose the plain texts of a folder without parts; RequestError if there are none."""
    plain = [file for file in files if _is_plain(file)]
    about = [file for file in plain if _is_about(file)]
    if len(about) < len(plain):
        pages = [file for file in plain if part_named(_stem(file))]
        if named := about + pages:
            logger.warning(
                "%s: reading %d plain texts, including %s", name, len(plain), shortened(named)
            )
        return plain
    if tables := [file for file in files if _is_table(file)]:
        raise RequestError(
            f"{folder} has no train file, but tables with other names, {shortened(tables)}: rename"
            f" one to train.*, or name one file: --data {folder / tables[0]}"
        )
    if about:
        raise RequestError(
            f"{folder} has only {shortened(about)}: to train on that, name the file:"
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
    """Whether a file can be read and is not a text about the data set."""
    return _is_table(file) or (_is_plain(file) and not _is_about(file))


def _stem(file: str) -> str:
    name = PurePosixPath(file).name
    return (split_name(name) or (name, ""))[0]
