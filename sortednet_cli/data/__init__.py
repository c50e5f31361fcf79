"""Data: where samples come from, how they are split, decoded, augmented and served.

Importing it imports no torch, for sources are asked what they are before: each name is imported
when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sortednet_cli.data.images.cache import Decoded
    from sortednet_cli.data.images.dataset import Images, open_images
    from sortednet_cli.data.images.format import ImageFormat
    from sortednet_cli.data.images.sources.base import ImageSource
    from sortednet_cli.data.inputs import Batch, Dataset, InputFormat, Part
    from sortednet_cli.data.nominal import nominal_format
    from sortednet_cli.data.opening import open_data
    from sortednet_cli.data.text.format import TextFormat
    from sortednet_cli.data.text.sources.base import TextSource
    from sortednet_cli.data.text.table import Table
    from sortednet_cli.data.text.texts import Texts, open_texts

_MODULES = {
    "Batch": "inputs",
    "Dataset": "inputs",
    "Decoded": "images.cache",
    "ImageFormat": "images.format",
    "ImageSource": "images.sources.base",
    "Images": "images.dataset",
    "InputFormat": "inputs",
    "Part": "inputs",
    "Table": "text.table",
    "TextFormat": "text.format",
    "TextSource": "text.sources.base",
    "Texts": "text.texts",
    "nominal_format": "nominal",
    "open_data": "opening",
    "open_images": "images.dataset",
    "open_texts": "text.texts",
}

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
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
