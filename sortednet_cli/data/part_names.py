"""What files and folders of a data set's parts are called, for images and for texts."""

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
    """The part that a file's stem or a folder's name stands for, in any case of letters."""
    return PART_NAMES.get(name.lower())
