"""Data: reading, splitting, decoding, augmenting and batching samples.

Importing this package imports no torch, because sources are asked for facts before torch is
imported. Everything except the abstract sources is imported when its name is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sortednet_cli.data.images.sources.base import ImageSource
from sortednet_cli.data.text.sources.base import TextSource

if TYPE_CHECKING:
    from sortednet_cli.data.opening import (
        Batch,
        Dataset,
        Decoded,
        ImageFormat,
        Images,
        InputFormat,
        Part,
        Table,
        TextFormat,
        Texts,
        nominal_format,
        open_data,
        open_images,
        open_texts,
    )

__all__ = [
    "Batch",
    "Dataset",
    "Decoded",
    "ImageFormat",
    "ImageSource",
    "Images",
    "InputFormat",
    "Part",
    "Table",
    "TextFormat",
    "TextSource",
    "Texts",
    "nominal_format",
    "open_data",
    "open_images",
    "open_texts",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from sortednet_cli.data import opening

        return getattr(opening, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
