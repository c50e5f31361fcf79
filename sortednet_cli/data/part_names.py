"""Names of the files and folders that hold a data set's parts."""

from __future__ import annotations

from sortednet_cli.data.split import PartName

PART_NAMES: dict[str, PartName] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


def part_named(name: str) -> PartName | None:
    """Return the part that a file's stem or a folder's name denotes, ignoring case."""
    return PART_NAMES.get(name.lower())
