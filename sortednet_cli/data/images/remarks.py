"""What was made of images that may surprise their owner: counted, and told in a line each."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum

from sortednet_cli.logs import logger


class Remark(StrEnum):
    """What an image has, and what was made of it."""

    TRANSPARENT = "transparent pixels, laid over white"
    FRAMES = "several frames or pages, the first taken"
    METADATA = "damaged metadata, passed over"


Remarks = list[tuple[Remark, str]]
"""Remarks with the names of their images, in the order of the images."""


def summed_up(remarks: Remarks) -> tuple[str, ...]:
    """Count the images of each remark; a line names the first of them."""
    lines = []
    for remark in Remark:
        names = list(dict.fromkeys(name for found, name in remarks if found is remark))
        if names:
            images = "1 image" if len(names) == 1 else f"{len(names):,} images"
            first = names[0] if len(names) == 1 else f"{names[0]}, ..."
            lines.append(f"{images} with {remark}: {first}")
    return tuple(lines)


def tell(where: object, lines: Iterable[str]) -> None:
    """Log each line, with the data that it is about."""
    for line in lines:
        logger.warning("%s: %s", where, line)


class Told:
    """Remarks on images that are read as training goes: each kind is told when it is first met."""

    def __init__(self, where: object) -> None:
        self._where = where
        self._told: set[Remark] = set()

    def tell_new(self, remarks: Collection[tuple[Remark, str]]) -> None:
        """Tell what has not been told yet."""
        for remark, name in remarks:
            if remark not in self._told:
                self._told.add(remark)
                tell(self._where, [f"images with {remark}: {name}, ..."])
