"""The tree of an image data set: which files are images, of which part and class."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sortednet_cli.data.format import shortened
from sortednet_cli.data.split import PartName
from sortednet_cli.errors import RequestError
from sortednet_cli.logs import logger

EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
)
EXPECTED = "expected train/CLASS/ and test/CLASS/ folders of images, or CLASS/ folders alone"
PART_FOLDERS: dict[str, PartName] = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
MAX_FILES = 5_000_000
MAX_LEVELS = 64
"""Folders inside one another: links may make a few folders look like very many."""
# Left by macOS in archives; holds no images of its own.
_IGNORED_FOLDERS = frozenset(("__MACOSX",))

Names = tuple[str, ...]


@dataclass(frozen=True)
class Sample:
    """One image: its path inside the tree, with `/`, and the number of its class."""

    name: str
    label: int


@dataclass(frozen=True)
class Layout:
    """The classes of a tree, sorted, and its parts; samples are sorted by name."""

    classes: tuple[str, ...]
    parts: Mapping[PartName, tuple[Sample, ...]]


def is_hidden(name: str) -> bool:
    """Say whether any component of a path inside a tree is hidden or not meant for us."""
    return any(part.startswith(".") or part in _IGNORED_FOLDERS for part in name.split("/"))


def is_image(name: str) -> bool:
    """Say whether a path inside a tree is that of an image, going by its extension."""
    return name[name.rfind(".") :].lower() in EXTENSIONS and not is_hidden(name)


def list_folder(root: Path) -> tuple[list[str], list[str]]:
    """List the images and the folders below `root`, as paths inside it. Links are followed."""
    images: list[str] = []
    folders: list[str] = []

    def walk(folder: Path, prefix: str, ancestors: frozenset[str]) -> None:
        if len(ancestors) > MAX_LEVELS:
            raise RequestError(f"{root}: folders lie more than {MAX_LEVELS} levels deep")
        if len(images) + len(folders) > MAX_FILES:
            raise RequestError(f"{root} holds more than {MAX_FILES:,} files and folders")
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            name = prefix + entry.name
            if _is_folder(entry):
                real = os.path.realpath(entry.path)
                if real not in ancestors and not is_hidden(entry.name):
                    folders.append(name)
                    walk(Path(entry.path), f"{name}/", ancestors | {real})
            elif is_image(entry.name):
                images.append(name)

    try:
        walk(root, "", frozenset((os.path.realpath(root),)))
    except OSError as error:
        raise RequestError(f"{root} cannot be read: {error.strerror or error}") from error
    return images, folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle: reading it as an image will say so
        return False


def lay_out(images: Iterable[str], folders: Iterable[str], where: str) -> Layout:
    """Find the parts and classes among the paths of a tree.

    A single folder around everything is looked through. Raises RequestError, naming `where`
    and what was expected, for a tree that is neither form.
    """
    files = [tuple(name.split("/")) for name in sorted(images)]
    if not files:
        raise RequestError(f"{where} holds no images: {EXPECTED}")
    dirs = sorted(tuple(name.split("/")) for name in folders if not is_hidden(name))
    depth = _wrapper_depth(files, dirs)
    inner = [names[depth:] for names in dirs if len(names) > depth]
    found = _parts_of([(names[depth:], "/".join(names)) for names in files], inner, where)
    classes = _classes_of(found, where)
    numbers = {name: number for number, name in enumerate(classes)}
    return Layout(
        classes,
        {
            part: tuple(Sample(path, numbers[name]) for name, path in samples)
            for part, samples in found.items()
        },
    )


def _wrapper_depth(files: list[Names], dirs: list[Names]) -> int:
    tops = {names[0] for names in files} | {names[0] for names in dirs}
    wrapped = len(tops) == 1 and not tops & set(PART_FOLDERS)
    return 1 if wrapped and all(len(names) >= 3 for names in files) else 0


def _parts_of(
    files: list[tuple[Names, str]], dirs: list[Names], where: str
) -> dict[PartName, list[tuple[str, str]]]:
    """Sort files into parts, each file as (class, path); `val` alone is the test part."""
    tops = {names[0] for names, _ in files} | {names[0] for names in dirs}
    named = sorted(tops & set(PART_FOLDERS))
    if not named:
        _check_classes(files, dirs, where)
        return {"train": [(names[0], path) for names, path in files]}
    if "train" not in named:
        raise RequestError(f"{where} has {shortened(named)} but no train folder: {EXPECTED}")
    validation = [name for name in named if PART_FOLDERS[name] == "validation"]
    if len(validation) > 1:
        raise RequestError(f"{where} has two validation folders: {shortened(validation)}")
    if ignored := sorted(tops - set(named)):
        logger.warning("%s: ignored beside train: %s", where, shortened(ignored))
    parts: dict[PartName, list[tuple[str, str]]] = {}
    for top in named:
        own = [(names[1:], path) for names, path in files if names[0] == top]
        below = [names[1:] for names in dirs if names[0] == top and len(names) > 1]
        if not own:
            raise RequestError(f"{where}: the folder {top} holds no images: {EXPECTED}")
        _check_classes(own, below, f"{where}: {top}")
        parts[PART_FOLDERS[top]] = [(names[0], path) for names, path in own]
    if "validation" in parts and "test" not in parts:
        parts["test"] = parts.pop("validation")
    return parts


def _check_classes(files: list[tuple[Names, str]], dirs: list[Names], where: str) -> None:
    for names, path in files:
        if len(names) < 2:
            raise RequestError(f"{where}: {path} lies in no class folder: {EXPECTED}")
    empty = sorted({names[0] for names in dirs} - {names[0] for names, _ in files})
    if empty:
        raise RequestError(f"{where}: class folders without images: {shortened(empty)}")


def _classes_of(parts: Mapping[PartName, list[tuple[str, str]]], where: str) -> tuple[str, ...]:
    classes = {name for name, _ in parts["train"]}
    for part, samples in parts.items():
        other = {name for name, _ in samples}
        if other != classes:
            raise RequestError(
                f"{where}: train and {part} have different classes: only in train:"
                f" {shortened(sorted(classes - other))}; only in {part}:"
                f" {shortened(sorted(other - classes))}"
            )
    if len(classes) < 2:
        raise RequestError(f"{where} has one class only, {shortened(sorted(classes))}: {EXPECTED}")
    return tuple(sorted(classes))
