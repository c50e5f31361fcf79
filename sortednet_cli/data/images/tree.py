"""List the tree of an image data set: images, folders and other files."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sortednet_cli.data.images.pillow import suffixes
from sortednet_cli.data.limits import MAX_FILES, MAX_LEVELS
from sortednet_cli.errors import RequestError, shortened

# Files of macOS, Windows and Synology, such as thumbnails; they are not data.
_OF_SYSTEMS = frozenset(("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini", "@eaDir"))


@dataclass
class Listing:
    """Paths inside a tree: images, folders and others."""

    images: list[str] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)
    others: Counter[str] = field(default_factory=Counter)
    """Number of other files by suffix."""

    def add_file(self, name: str) -> bool:
        """Add the file `name`; return whether it is an image by its suffix."""
        if not self.is_visible(name):
            return False
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 names of a tar are no paths
        if suffix in suffixes():
            self.images.append(name)
            return True
        self.others[suffix or "without suffix"] += 1
        return False

    def is_visible(self, name: str) -> bool:
        """Whether a path is used. The topmost hidden component of a hidden path is recorded."""
        parts = name.split("/")
        for depth, part in enumerate(parts, start=1):
            if part in _OF_SYSTEMS or part.startswith("._"):
                return False
            if part.startswith("."):
                self.hidden.add("/".join(parts[:depth]))
                return False
        return True

    @property
    def ignored(self) -> str:
        """Description of the ignored files, for a message; empty if there are none."""
        counts = sorted((-count, suffix) for suffix, count in self.others.items())
        kinds = [f"{-count:,} {suffix}" for count, suffix in counts]
        by_suffix = f"files that are not images: {shortened(kinds)}" if kinds else ""
        hidden = f"hidden files: {shortened(sorted(self.hidden))}" if self.hidden else ""
        return "; ".join(filter(None, (by_suffix, hidden)))


def list_folder(root: Path) -> Listing:
    """List all files and folders under `root`. Links are followed."""
    listing = Listing()

    def walk(folder: Path, prefix: str, ancestors: frozenset[str]) -> None:
        if len(ancestors) > MAX_LEVELS:
            raise RequestError(f"{root}: folders are nested more than {MAX_LEVELS} levels deep")
        if len(listing.images) + len(listing.folders) > MAX_FILES:
            raise RequestError(f"{root} holds more than {MAX_FILES:,} files and folders")
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            name = prefix + entry.name
            if not _is_folder(entry):
                listing.add_file(name)
            elif (real := os.path.realpath(entry.path)) not in ancestors and listing.is_visible(
                name
            ):
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
    except OSError:  # a cycle of links: reading it as an image reports that
        return False
