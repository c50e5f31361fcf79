"""Opening the data that a spec names, of whatever kind they are."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from sortednet_cli.data.images.dataset import open_images
from sortednet_cli.data.images.format import ImageFormat
from sortednet_cli.data.inputs import Dataset, InputFormat
from sortednet_cli.data.text.format import TextFormat
from sortednet_cli.data.text.texts import open_texts
from sortednet_cli.spec import ImageDataSpec, TextDataSpec


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
