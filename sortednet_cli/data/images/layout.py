"""Parts and classes of an image data set, told from the names of its folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from sortednet_cli.data.images.names import composed, look_alikes, mentioned_parts, part_of
from sortednet_cli.data.images.sources.base import EXPECTED
from sortednet_cli.data.images.tree import Listing
from sortednet_cli.data.split import PARTS, PartName
from sortednet_cli.errors import RequestError, listed, shortened

Names = tuple[str, ...]


@dataclass(frozen=True)
class Sample:
    """One image: its path inside the tree, with `/`, and the number of its class."""

    name: str
    label: int


@dataclass(frozen=True)
class Layout:
    """The classes of a tree, sorted, and its parts; samples are sorted by name.

    `notes` say, a line each, what is left out and which classes a part lacks.
    """

    classes: tuple[str, ...]
    parts: Mapping[PartName, tuple[Sample, ...]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Level:
    """What lies below some folder: images as (names from there on, whole path), and folders."""

    images: list[tuple[Names, str]]
    dirs: list[Names]

    @cached_property
    def folders(self) -> list[str]:
        """Names of the folders at the top, sorted."""
        return sorted(self.full | {names[0] for names in self.dirs})

    @cached_property
    def full(self) -> set[str]:
        """Names of those with images in them."""
        return {names[0] for names, _ in self.images if len(names) > 1}

    def within(self, folder: str) -> _Level:
        """Go into one of the folders."""
        return _Level(
            [(names[1:], path) for names, path in self.images if names[0] == folder],
            [names[1:] for names in self.dirs if names[0] == folder and len(names) > 1],
        )

    def unwrapped(self, is_wrapper: Callable[[str], bool]) -> _Level:
        """Look through single folders around all class folders."""
        deep = bool(self.images) and all(len(names) > 2 for names, _ in self.images)
        if deep and len(self.folders) == 1 and is_wrapper(*self.folders):
            return self.within(*self.folders).unwrapped(is_wrapper)
        return self


@dataclass(frozen=True)
class _Part:
    """One part: its images as (class, path), and the names of its folders that hold none."""

    samples: list[tuple[str, str]]
    empty: list[str]

    @property
    def classes(self) -> set[str]:
        return {name for name, _ in self.samples}


def lay_out(listing: Listing, where: str) -> Layout:
    """Find the parts and classes among the paths of a tree.

    Single folders around everything are looked through. Classes are those of train; other parts
    may lack some of them. Raises RequestError, naming `where` and what was expected, for a tree
    of another form or one that can be read in two ways.
    """
    if not listing.images:
        left_out = f" (left out, {listing.left_out})" if listing.left_out else ""
        raise RequestError(f"{where} holds no images{left_out}: {EXPECTED}")
    images = [(tuple(name.split("/")), name) for name in sorted(listing.images)]
    dirs = sorted(tuple(name.split("/")) for name in listing.folders)
    level = _Level(images, dirs).unwrapped(lambda folder: part_of(folder) is None)
    folders = _part_folders(level, where)
    found = {
        part: _part(level.within(folder).unwrapped(_is(part)), f"{where}: {folder}")
        for part, folder in folders.items()
    } or {"train": _part(level, where)}
    _check_empty(found, where, listing)
    classes = tuple(sorted(found["train"].classes))
    notes = [f"left out, {listing.left_out}"] if listing.left_out else []
    notes += _beside(level, folders) + _lacking(found, folders, where)
    numbers = {name: number for number, name in enumerate(classes)}
    parts = {
        part: tuple(Sample(path, numbers[name]) for name, path in own.samples)
        for part, own in found.items()
    }
    return Layout(classes, parts, tuple(notes))


def _is(part: PartName) -> Callable[[str], bool]:
    return lambda folder: part_of(folder) == part


def _part_folders(level: _Level, where: str) -> dict[PartName, str]:
    """Find the folder of each part; none where all folders are classes."""
    named: dict[PartName, list[str]] = {part: [] for part in PARTS}
    others = []
    for folder in level.folders:
        if (part := part_of(folder)) is not None:
            named[part].append(folder)
        elif folder in level.full:
            others.append(folder)
    said = [folder for folders in named.values() for folder in folders]
    if not said:
        _refuse_unclear(level.folders, where)
        return {}
    if others and len(said) == 1 and _is_flat(level.within(*said)):
        return {}  # a class that is called `train` or `test`: a part would hold class folders
    for part, folders in named.items():
        if len(folders) > 1:
            raise RequestError(f"{where} has {len(folders)} {part} folders: {listed(folders)}")
    if not named["train"]:
        raise RequestError(f"{where} has {listed(said)} but no train folder: {EXPECTED}")
    if others and len(said) == 1:
        raise RequestError(
            f"{where}: {said[0]} may be the training part, or a class beside {shortened(others)}:"
            " move the others out if it is the part, rename it if it is a class"
        )
    parts: dict[PartName, str] = {part: names[0] for part, names in named.items() if names}
    if "validation" in parts and "test" not in parts:
        parts["test"] = parts.pop("validation")
    return parts


def _is_flat(level: _Level) -> bool:
    return bool(level.images) and all(len(names) == 1 for names, _ in level.images)


def _refuse_unclear(folders: list[str], where: str) -> None:
    parts = [mentioned_parts(folder) for folder in folders]
    if all(parts) and len(set().union(*parts)) > 1:
        raise RequestError(
            f"{where}: {shortened(folders)} may be parts or classes: rename parts to train,"
            " validation and test, and classes to names without these words"
        )


def _part(level: _Level, where: str) -> _Part:
    """Sort the images of one part by class folders; their names in composed form."""
    if not level.images:
        raise RequestError(f"{where} holds no images: {EXPECTED}")
    for names, path in level.images:
        if len(names) < 2:
            raise RequestError(f"{where}: {path} lies in no class folder: {EXPECTED}")
    for folder in level.folders:
        if any("\udc80" <= char <= "\udcff" for char in folder):  # how bytes of no text come in
            raise RequestError(
                f"{where}: the class folder {folder!a} has no name in UTF-8: rename it"
            )
    if alike := look_alikes(level.folders):
        raise RequestError(f"{where}: class folders look alike: {_told_apart(alike)}; rename one")
    return _Part(
        [(composed(names[0]), path) for names, path in level.images],
        [composed(folder) for folder in level.folders if folder not in level.full],
    )


def _check_empty(found: Mapping[PartName, _Part], where: str, listing: Listing) -> None:
    """Refuse class folders without images, but where another part merely lacks a class of train."""
    classes = found["train"].classes
    empty = [name for own in found.values() for name in own.empty if name not in classes]
    if empty:
        left_out = f" (left out, {listing.left_out})" if listing.left_out else ""
        raise RequestError(f"{where}: class folders without images: {shortened(empty)}{left_out}")


def _beside(level: _Level, folders: Mapping[PartName, str]) -> list[str]:
    """Count the images that lie beside the folders of the parts."""
    if not folders:
        return []
    outside = [names[0] for names, _ in level.images if names[0] not in folders.values()]
    if not outside:
        return []
    images = "1 image" if len(outside) == 1 else f"{len(outside):,} images"
    return [
        f"left out, {images} beside {listed(folders.values())}: {shortened(sorted(set(outside)))}"
    ]


def _lacking(
    found: Mapping[PartName, _Part], folders: Mapping[PartName, str], where: str
) -> list[str]:
    """Say which classes of train other parts lack; RequestError for one that train lacks."""
    classes = found["train"].classes
    notes = []
    for part, own in found.items():
        if unknown := sorted(own.classes - classes):
            alike = look_alikes(classes | own.classes)
            hint = f" ({_told_apart(alike)} look alike: rename one)" if alike else ""
            raise RequestError(
                f"{where}: {folders[part]} has classes that {folders['train']} lacks:"
                f" {shortened(unknown)}{hint}; its classes are {shortened(sorted(classes))}"
            )
        if lacking := sorted(classes - own.classes):
            notes.append(
                f"{folders[part]} has no images of {len(lacking)} of {len(classes)} classes:"
                f" {shortened(lacking)}"
            )
    return notes


def _told_apart(names: Iterable[str]) -> str:
    return listed(map(ascii, names))
