"""Remarks on decoding that may surprise the user, counted and logged in one line each."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum

from sortednet_cli.logs import logger


class Remark(StrEnum):
    """A property of an image, and how it was handled."""

    TRANSPARENT = "transparent pixels, blended over white"
    FRAMES = "several frames or pages, of which the first is used"
    METADATA = "damaged metadata, which is ignored"


Remarks = list[tuple[Remark, str]]
"""Pairs of a remark and an image's name, in the order of the images."""


def summarize(remarks: Remarks) -> tuple[str, ...]:
    """Count the images of each remark; each line names the first image."""
    lines = []
    for remark in Remark:
        names = list(dict.fromkeys(name for other, name in remarks if other is remark))
        if names:
            images = "1 image" if len(names) == 1 else f"{len(names):,} images"
            first = names[0] if len(names) == 1 else f"{names[0]}, ..."
            lines.append(f"{images} with {remark}: {first}")
    return tuple(lines)


def log_lines(where: object, lines: Iterable[str]) -> None:
    """Log each line as a warning about the data `where`."""
    for line in lines:
        logger.warning("%s: %s", where, line)


class RemarkLog:
    """Logs remarks on images that are read during training, each kind when it first occurs."""

    def __init__(self, where: object) -> None:
        self._where = where
        self._logged: set[Remark] = set()

    def log_new(self, remarks: Collection[tuple[Remark, str]]) -> None:
        """Log the kinds of remarks that have not been logged yet."""
        for remark, name in remarks:
            if remark not in self._logged:
                self._logged.add(remark)
                log_lines(self._where, [f"images with {remark}: {name}, ..."])
