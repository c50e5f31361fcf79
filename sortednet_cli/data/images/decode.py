"""Decode the bytes of image files to pixels."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sortednet_cli.data.images.pillow import open_image
from sortednet_cli.data.images.remarks import Remarks
from sortednet_cli.errors import RequestError

Pixels = NDArray[np.uint8]
_WINDOW = 8
_CHUNK = 128

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ImageDecoder:
    """Decodes the images of a data set; `channels` is 1 (gray) or 3 (RGB).

    With `resize`, the shorter side is scaled to `size` and the centre is cropped. Without, an
    image that is not `size` x `size` is an error.
    """

    channels: int
    size: int
    resize: bool

    def __call__(self, data: bytes, name: str, remarks: Remarks) -> Pixels:
        """Decode one file to uint8 [C, size, size]; RequestError names a damaged one."""
        image = open_image(data, name, self.channels, remarks)
        if image.size != (self.size, self.size):
            if not self.resize:
                raise RequestError(
                    f"images differ in size: {name} is {image.width}x{image.height}, but others"
                    f" are {self.size}x{self.size}; set data.image_size to resize all"
                )
            image = resize_and_crop(image, self.size, self.size)
        return to_pixels(image)


def resize_and_crop(image: Any, shorter: int, size: int) -> Any:
    """Scale the shorter side of a PIL image to `shorter`, and crop the central `size` x `size`.

    Only the centre is resized, so an image of 1 x 1,000,000 pixels needs no memory.
    """
    side = min(image.size) * size / shorter
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)


def to_pixels(image: Any) -> Pixels:
    """Convert a PIL image of mode L or RGB to uint8 [C, H, W]."""
    pixels: Pixels = np.asarray(image)
    if pixels.ndim == 2:
        return pixels[None]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def square_size(data: bytes, name: str) -> int:
    """Return the side of a square image in pixels; RequestError if it is not square."""
    width, height = open_image(data, name, 3, []).size
    if width != height:
        raise RequestError(
            f"images are not square: {name} is {width}x{height}; set data.image_size to"
            " resize and crop all"
        )
    return int(width)


def in_threads(work: Callable[[list[Item]], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Apply `work` to lists of items in a few threads; yield the results in order.

    Only a few lists are in flight, so `items` may be far larger than memory.
    """
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for chunk in _chunks(items):
                pending.append(pool.submit(work, chunk))
                if len(pending) >= _WINDOW:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
