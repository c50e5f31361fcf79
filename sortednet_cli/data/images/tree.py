"""The tree of an image data set: which of its files are images, and what else is there."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sortednet_cli.data.images.pillow import suffixes
from sortednet_cli.data.limits import MAX_FILES, MAX_LEVELS
from sortednet_cli.errors import RequestError, shortened

# Left behind by macOS, Windows and Synology; thumbnails and notes of their own, no one's data.
_OF_SYSTEMS = frozenset(("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini", "@eaDir"))


@dataclass
class Listing:
    """Paths inside a tree: images, folders, and what is neither."""

    images: list[str] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)
    others: Counter[str] = field(default_factory=Counter)
    """Numbers of files by suffix."""

    def takes_image(self, name: str) -> bool:
        """Count in the file `name`, and say whether it is an image by its suffix."""
        if not self.shows(name):
            return False
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 names of a tar are no paths
        if suffix in suffixes():
            self.images.append(name)
            return True
        self.others[suffix or "without suffix"] += 1
        return False

    def shows(self, name: str) -> bool:
        """Say whether a path is one to look at; hidden ones are counted, by their topmost part."""
        parts = name.split("/")
        for depth, part in enumerate(parts, start=1):
            if part in _OF_SYSTEMS or part.startswith("._"):
                return False
            if part.startswith("."):
                self.hidden.add("/".join(parts[:depth]))
                return False
        return True

    @property
    def left_out(self) -> str:
        """What is not looked at, for a message; empty if there is nothing."""
        counts = sorted((-count, suffix) for suffix, count in self.others.items())
        kinds = [f"{-count:,} {suffix}" for count, suffix in counts]
        by_suffix = f"no images by suffix: {shortened(kinds)}" if kinds else ""
        hidden = f"hidden: {shortened(sorted(self.hidden))}" if self.hidden else ""
        return "; ".join(filter(None, (by_suffix, hidden)))


def list_folder(root: Path) -> Listing:
    """List what lies below the folder `root`. Links are followed."""
    listing = Listing()

    def walk(folder: Path, prefix: str, ancestors: frozenset[str]) -> None:
        if len(ancestors) > MAX_LEVELS:
            raise RequestError(f"{root}: folders lie more than {MAX_LEVELS} levels deep")
        if len(listing.images) + len(listing.folders) > MAX_FILES:
            raise RequestError(f"{root} holds more than {MAX_FILES:,} files and folders")
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            name = prefix + entry.name
            if not _is_folder(entry):
                listing.takes_image(name)
            elif (real := os.path.realpath(entry.path)) not in ancestors and listing.shows(name):
                listing.folders.add(name)
                walk(Path(entry.path), f"{name}/", ancestors | {real})

    try:
        walk(root, "", frozenset((os.path.realpath(root),)))
    except OSError as error:
        raise RequestError(f"{root} cannot be read: {error.strerror or error}") from error
    return listing


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle: reading it as an image will say so
        return False
