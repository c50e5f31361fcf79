"""Find the parts and classes of an image data set from the names of its folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from sortednet_cli.data.images.names import look_alikes, mentioned_parts, part_of, to_nfc
from sortednet_cli.data.images.sources.base import EXPECTED
from sortednet_cli.data.images.tree import Listing
from sortednet_cli.data.split import PARTS, PartName
from sortednet_cli.errors import RequestError, listed, shortened

Names = tuple[str, ...]


@dataclass(frozen=True)
class Sample:
    """One image: its path inside the tree, with `/`, and its class."""

    name: str
    label: int


@dataclass(frozen=True)
class Layout:
    """The sorted classes of a tree and its parts; samples are sorted by name.

    `notes` are lines that say which files are ignored and which classes a part lacks.
    """

    classes: tuple[str, ...]
    parts: Mapping[PartName, tuple[Sample, ...]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Level:
    """The content of a folder: images as (path components below it, full path), and folders."""

    images: list[tuple[Names, str]]
    dirs: list[Names]

    @cached_property
    def folders(self) -> list[str]:
        """Sorted names of the folders at the top level."""
        return sorted(self.full | {names[0] for names in self.dirs})

    @cached_property
    def full(self) -> set[str]:
        """Names of the folders at the top level that hold images."""
        return {names[0] for names, _ in self.images if len(names) > 1}

    def within(self, folder: str) -> _Level:
        """Return the content of one folder at the top level."""
        return _Level(
            [(names[1:], path) for names, path in self.images if names[0] == folder],
            [names[1:] for names in self.dirs if names[0] == folder and len(names) > 1],
        )

    def unwrapped(self, is_wrapper: Callable[[str], bool]) -> _Level:
        """Skip single folders that contain all class folders."""
        deep = bool(self.images) and all(len(names) > 2 for names, _ in self.images)
        if deep and len(self.folders) == 1 and is_wrapper(*self.folders):
            return self.within(*self.folders).unwrapped(is_wrapper)
        return self


@dataclass(frozen=True)
class _Part:
    """One part: its images as (class, path), and the names of its empty class folders."""

    samples: list[tuple[str, str]]
    empty: list[str]

    @property
    def classes(self) -> set[str]:
        return {name for name, _ in self.samples}


def lay_out(listing: Listing, where: str) -> Layout:
    """Find the parts and classes among the paths of a tree.

    Single folders around everything are skipped. The classes are those of the training part;
    other parts may lack some of them.

    Raises:
        RequestError: the tree has another form, or is ambiguous. The message names `where` and the
            expected form.
    """
    if not listing.images:
        ignored = f" (ignored {listing.ignored})" if listing.ignored else ""
        raise RequestError(f"{where} holds no images{ignored}: {EXPECTED}")
    images = [(tuple(name.split("/")), name) for name in sorted(listing.images)]
    dirs = sorted(tuple(name.split("/")) for name in listing.folders)
    level = _Level(images, dirs).unwrapped(lambda folder: part_of(folder) is None)
    folders = _part_folders(level, where)
    parts = {
        part: _part(level.within(folder).unwrapped(_is(part)), f"{where}: {folder}")
        for part, folder in folders.items()
    } or {"train": _part(level, where)}
    _check_empty(parts, where, listing)
    classes = tuple(sorted(parts["train"].classes))
    notes = [f"ignored {listing.ignored}"] if listing.ignored else []
    notes += _beside_parts(level, folders) + _missing_classes(parts, folders, where)
    numbers = {name: number for number, name in enumerate(classes)}
    samples = {
        name: tuple(Sample(path, numbers[label]) for label, path in part.samples)
        for name, part in parts.items()
    }
    return Layout(classes, samples, tuple(notes))


def _is(part: PartName) -> Callable[[str], bool]:
    return lambda folder: part_of(folder) == part


def _part_folders(level: _Level, where: str) -> dict[PartName, str]:
    """Return the folder of each part; empty if all folders are classes."""
    named: dict[PartName, list[str]] = {part: [] for part in PARTS}
    others = []
    for folder in level.folders:
        if (part := part_of(folder)) is not None:
            named[part].append(folder)
        elif folder in level.full:
            others.append(folder)
    part_folders = [folder for folders in named.values() for folder in folders]
    if not part_folders:
        _refuse_ambiguous(level.folders, where)
        return {}
    if others and len(part_folders) == 1 and _is_flat(level.within(*part_folders)):
        return {}  # a class named `train` or `test`: a part would hold class folders
    for part, folders in named.items():
        if len(folders) > 1:
            raise RequestError(f"{where} has {len(folders)} {part} folders: {listed(folders)}")
    if not named["train"]:
        raise RequestError(f"{where} has {listed(part_folders)} but no train folder: {EXPECTED}")
    if others and len(part_folders) == 1:
        raise RequestError(
            f"{where}: {part_folders[0]} may be the training part, or a class beside"
            f" {shortened(others)}: move the others out if it is the part, rename it if it is a"
            " class"
        )
    parts: dict[PartName, str] = {part: names[0] for part, names in named.items() if names}
    if "validation" in parts and "test" not in parts:
        parts["test"] = parts.pop("validation")
    return parts


def _is_flat(level: _Level) -> bool:
    return bool(level.images) and all(len(names) == 1 for names, _ in level.images)


def _refuse_ambiguous(folders: list[str], where: str) -> None:
    parts = [mentioned_parts(folder) for folder in folders]
    if all(parts) and len(set().union(*parts)) > 1:
        raise RequestError(
            f"{where}: {shortened(folders)} may be parts or classes: rename parts to train,"
            " validation and test, and classes to names without these words"
        )


def _part(level: _Level, where: str) -> _Part:
    """Collect the images of one part by class folder, with class names in NFC."""
    if not level.images:
        raise RequestError(f"{where} holds no images: {EXPECTED}")
    for names, path in level.images:
        if len(names) < 2:
            raise RequestError(f"{where}: {path} is not in a class folder: {EXPECTED}")
    for folder in level.folders:
        if any("\udc80" <= char <= "\udcff" for char in folder):  # Python's escapes of raw bytes
            raise RequestError(
                f"{where}: the name of the class folder {folder!a} is not UTF-8: rename it"
            )
    if alike := look_alikes(level.folders):
        raise RequestError(f"{where}: class folders look alike: {_escaped(alike)}; rename one")
    return _Part(
        [(to_nfc(names[0]), path) for names, path in level.images],
        [to_nfc(folder) for folder in level.folders if folder not in level.full],
    )


def _check_empty(parts: Mapping[PartName, _Part], where: str, listing: Listing) -> None:
    """Refuse class folders without images, except those of classes that train has."""
    classes = parts["train"].classes
    empty = [name for part in parts.values() for name in part.empty if name not in classes]
    if empty:
        ignored = f" (ignored {listing.ignored})" if listing.ignored else ""
        raise RequestError(f"{where}: class folders without images: {shortened(empty)}{ignored}")


def _beside_parts(level: _Level, folders: Mapping[PartName, str]) -> list[str]:
    """Count the images outside the folders of the parts."""
    if not folders:
        return []
    outside = [names[0] for names, _ in level.images if names[0] not in folders.values()]
    if not outside:
        return []
    images = "1 image" if len(outside) == 1 else f"{len(outside):,} images"
    return [
        f"ignored {images} beside {listed(folders.values())}: {shortened(sorted(set(outside)))}"
    ]


def _missing_classes(
    parts: Mapping[PartName, _Part], folders: Mapping[PartName, str], where: str
) -> list[str]:
    """Note the classes of train that other parts lack; RequestError for one that train lacks."""
    classes = parts["train"].classes
    notes = []
    for name, part in parts.items():
        if unknown := sorted(part.classes - classes):
            alike = look_alikes(classes | part.classes)
            hint = f" ({_escaped(alike)} look alike: rename one)" if alike else ""
            raise RequestError(
                f"{where}: {folders[name]} has classes that {folders['train']} lacks:"
                f" {shortened(unknown)}{hint}; its classes are {shortened(sorted(classes))}"
            )
        if missing := sorted(classes - part.classes):
            notes.append(
                f"{folders[name]} has no images of {len(missing)} of {len(classes)} classes:"
                f" {shortened(missing)}"
            )
    return notes


def _escaped(names: Iterable[str]) -> str:
    return listed(map(ascii, names))
