"""The table `[data]` of a spec. Its source decides whether it is about images or texts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from sortednet_cli.spec.data_sources import data_source
from sortednet_cli.spec.fields import MAX_IMAGE_SIZE, MAX_LENGTH, Share, SpecModel
from sortednet_cli.spec.template import check_template
from sortednet_cli.spec.vocabulary import SOURCES, one_of


class DataSpec(SpecModel):
    """The keys of every kind of data: its source, and the shares of the held-out parts."""

    source: Annotated[str, one_of(SOURCES)]
    """Where samples come from, such as `digits`, `image-folder` or `text`."""
    path: str | None = None
    """A file or folder, or a data set's name on a hub; `--data` sets it."""
    validation: Share = 0.1
    """Size of the validation part as a fraction of the training samples, if the data have none."""
    test: Share = 0.2
    """Size of the test part as a fraction of all samples, if the data have none."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the split into parts; not the training seed."""


class ImageDataSpec(DataSpec):
    """The keys of labelled images."""

    image_size: Annotated[int, Field(gt=0, le=MAX_IMAGE_SIZE)] | None = None
    """Scale the shorter side to this many pixels and crop the middle."""
    augment: Literal["none", "crop", "resized-crop"] = "crop"
    """Random changes to training images: padding and a crop, or a resized crop."""
    crop_padding: Annotated[int, Field(ge=0, le=MAX_IMAGE_SIZE)] = 4
    """For `crop`: pixels of zero padding before the crop."""
    flip: bool = False
    """Whether to mirror training images at random; not where `augment` is `none`."""
    storage: Literal["auto", "memory", "stream"] = "auto"
    """Hold decoded images in memory or read them as needed; `auto` holds up to 2 GiB."""
    workers: Annotated[int, Field(ge=0, le=256)] = 2
    """Processes that read images when they are not held in memory."""


ColumnText = Annotated[str, AfterValidator(check_template)]
"""The name of a column, or a template over several: `"{instruction}\\n{input}"`."""


class TextDataSpec(DataSpec):
    """The keys of texts: plain texts, labelled texts, or questions with answers."""

    text: ColumnText = "text"
    """The column of the text, or a template such as `"{title}\\n{body}"`."""
    pair: ColumnText | None = None
    """The column or template of the second text of a pair."""
    label: str = "label"
    """The column of the class."""
    question: ColumnText = "question"
    """For the task `answers`: the column or template of the question."""
    answer: ColumnText = "answer"
    """For the task `answers`: the column or template of the answer."""
    template: Literal["plain", "chat"] = "plain"
    """For the task `answers`: what a question becomes. `plain` adds a newline; `chat` makes it a
    user's turn in the tokenizer's chat template, and the answer the assistant's. A template that
    asks for the date always gets 1 January 2025."""
    max_length: Annotated[int, Field(ge=8, le=MAX_LENGTH)] = 128
    """Most tokens of a sequence; longer texts are truncated, with a warning."""
    vocab_size: Annotated[int, Field(ge=300, le=1 << 24)] = 4096
    """Tokens of the tokenizer that is trained on the texts if no pretrained one is given."""
    mask: Share = 0.15
    """For the task `masked-lm`: the fraction of tokens to hide."""
    phrases: bool = True
    """Whether a causal model's run keeps the phrases that its texts repeat, for `generate`."""


DATA_KINDS: dict[str, type[DataSpec]] = {"image": ImageDataSpec, "text": TextDataSpec}


def data_kind(value: Any) -> str:
    """Return the kind of data, `text` or `image`, of a table or a spec, by its source."""
    table = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    try:
        return data_source(SOURCES.known(table.get("source"))).kind
    except ValueError:  # the field says what is wrong; the spec of a run has all keys of its kind
        return "text" if "max_length" in table else "image"


AnyDataSpec = Annotated[
    Annotated[ImageDataSpec, Tag("image")] | Annotated[TextDataSpec, Tag("text")],
    Discriminator(data_kind),
]
