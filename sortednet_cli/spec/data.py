"""Where samples come from and how they are prepared: images or text, told by the source."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from sortednet_cli.spec.data_sources import data_source
from sortednet_cli.spec.fields import MAX_IMAGE_SIZE, MAX_LENGTH, Share, SpecModel
from sortednet_cli.spec.template import check_template
from sortednet_cli.spec.vocabulary import SOURCES


class DataSpec(SpecModel):
    """What every kind of data has: its source, and the shares of the held-out parts."""

    source: Annotated[str, BeforeValidator(SOURCES.known)]
    path: str | None = None
    validation: Share = 0.1
    test: Share = 0.2
    split_seed: Annotated[int, Field(ge=0)] = 0


class ImageDataSpec(DataSpec):
    """Images with a label each."""

    image_size: Annotated[int, Field(gt=0, le=MAX_IMAGE_SIZE)] | None = None
    augment: Literal["none", "crop", "resized-crop"] = "crop"
    crop_padding: Annotated[int, Field(ge=0, le=MAX_IMAGE_SIZE)] = 4
    flip: bool = False
    storage: Literal["auto", "memory", "stream"] = "auto"
    workers: Annotated[int, Field(ge=0, le=256)] = 2


ColumnText = Annotated[str, AfterValidator(check_template)]
"""The name of a column, or a template over several: `"{instruction}\\n{input}"`."""


class TextDataSpec(DataSpec):
    """Texts: whole ones, labelled ones, or questions with answers.

    `label` names a column; `text`, `pair`, `question` and `answer` name one each, or are
    templates over several. `max_length` counts the tokens of a sequence, `vocab_size` those of
    a tokenizer that is trained on the texts, `mask` is the share of tokens that masked language
    modelling hides.
    """

    text: ColumnText = "text"
    pair: ColumnText | None = None
    label: str = "label"
    question: ColumnText = "question"
    answer: ColumnText = "answer"
    max_length: Annotated[int, Field(ge=8, le=MAX_LENGTH)] = 128
    vocab_size: Annotated[int, Field(ge=300, le=1 << 24)] = 4096
    mask: Share = 0.15


DATA_KINDS: dict[str, type[DataSpec]] = {"image": ImageDataSpec, "text": TextDataSpec}


def data_kind(value: Any) -> str:
    """`text` or `image`, by the source of a table or of a spec."""
    name = value.get("source") if isinstance(value, dict) else getattr(value, "source", None)
    try:
        return data_source(SOURCES.known(name)).kind
    except ValueError:
        return "image"  # whose field says what is wrong


AnyDataSpec = Annotated[
    Annotated[ImageDataSpec, Tag("image")] | Annotated[TextDataSpec, Tag("text")],
    Discriminator(data_kind),
]
