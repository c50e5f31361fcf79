"""Data: where samples come from, how they are split, decoded, augmented and served."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from sortednet_cli.data.images.dataset import Images, open_images
from sortednet_cli.data.images.format import ImageFormat
from sortednet_cli.data.inputs import Batch, Dataset, InputFormat, Part
from sortednet_cli.data.nominal import nominal_format
from sortednet_cli.data.text import TextFormat, Texts, open_texts
from sortednet_cli.spec import ImageDataSpec, TextDataSpec

__all__ = [
    "Batch",
    "Dataset",
    "ImageFormat",
    "Images",
    "InputFormat",
    "Part",
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
        known: the format a model was made for, that the data must have.
        tokenizer: a folder with the tokenizer of texts; one is trained on them if not given.
    """
    if isinstance(spec, ImageDataSpec):
        return open_images(spec, known=cast(ImageFormat | None, known))
    return open_texts(spec, task, tokenizer=tokenizer, known=cast(TextFormat | None, known))
