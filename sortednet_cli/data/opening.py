"""Open the data that a spec names, images or texts; also exports the types of opened data."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from sortednet_cli.data.images.cache import Decoded
from sortednet_cli.data.images.dataset import Images, open_images
from sortednet_cli.data.images.format import ImageFormat
from sortednet_cli.data.inputs import Batch, Dataset, InputFormat, Part
from sortednet_cli.data.nominal import nominal_format
from sortednet_cli.data.text.format import TextFormat
from sortednet_cli.data.text.table import Table
from sortednet_cli.data.text.texts import Texts, open_texts
from sortednet_cli.spec import ImageDataSpec, TextDataSpec

__all__ = [
    "Batch",
    "Dataset",
    "Decoded",
    "ImageFormat",
    "Images",
    "InputFormat",
    "Part",
    "Table",
    "TextFormat",
    "Texts",
    "nominal_format",
    "open_data",
    "open_images",
    "open_texts",
]


def open_data(
    spec: ImageDataSpec | TextDataSpec,
    task: str,
    *,
    known: InputFormat | None = None,
    tokenizer: Path | None = None,
) -> Dataset:
    """Open the data that a spec names.

    Args:
        known: the format that a model was made for, which the data must have.
        tokenizer: folder of a tokenizer for texts; by default one is trained on them.
    """
    if isinstance(spec, ImageDataSpec):
        return open_images(spec, known=cast(ImageFormat | None, known))
    return open_texts(spec, task, tokenizer=tokenizer, known=cast(TextFormat | None, known))
