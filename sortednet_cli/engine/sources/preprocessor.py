"""How a stock checkpoint wants its images: the file of its image processor."""

from __future__ import annotations

import math
from pathlib import Path

from sortednet_cli.errors import RequestError
from sortednet_cli.storage.artifact import PREPROCESSOR
from sortednet_cli.storage.files import read_json

Values = tuple[float, ...]

_HALF = 0.5


def read_normalisation(folder: Path, channels: int) -> tuple[Values, Values]:
    """Read the mean and standard deviation, per channel, of pixels in [0, 1].

    A processor multiplies pixels of 0 to 255 by a factor, and then normalises them; it may leave
    out either. Without a file that says otherwise, values are in [-1, 1].

    Raises:
        RequestError: the file is damaged, or a value is not a number.
    """
    file = folder / PREPROCESSOR
    said = read_json(file) if file.is_file() else {}
    mean, std = (said.get(key) or [_HALF] * channels for key in ("image_mean", "image_std"))
    numbers = [*mean, *std] if isinstance(mean, list) and isinstance(std, list) else []
    if len(numbers) != 2 * channels or not all(map(_is_number, numbers)):
        raise RequestError(f"{file}: image_mean and image_std must be {channels} numbers each")
    if said.get("do_normalize") is False:
        mean, std = [0.0] * channels, [1.0] * channels
    factor = 1 if said.get("do_rescale") is False else said.get("rescale_factor", 1 / 255)
    if not _is_number(factor) or factor <= 0:
        raise RequestError(f"{file}: rescale_factor: {factor!r} is not a positive number")
    unit = 1.0 if math.isclose(255 * factor, 1) else 255 * factor  # what a pixel of 1 becomes
    return tuple(value / unit for value in mean), tuple(value / unit for value in std)


def _is_number(value: object) -> bool:
    return isinstance(value, float | int) and math.isfinite(value)
