"""The inputs that a spec is made for, told without its data. Knows no files."""

from __future__ import annotations

from sortednet_cli.data.images.format import ImageFormat
from sortednet_cli.data.images.sources.base import ImageSource
from sortednet_cli.data.inputs import InputFormat
from sortednet_cli.data.text.format import TextFormat
from sortednet_cli.errors import RequestError
from sortednet_cli.spec import RunSpec, TextDataSpec
from sortednet_cli.spec.data_sources import data_source

CLASSES_OF_TEXTS = 2
"""Classes assumed of texts whose labels nobody has read: they cost next to nothing."""


def nominal_format(spec: RunSpec) -> InputFormat:
    """Tell the shape of a spec's inputs from the spec alone: enough to count costs.

    Raises:
        RequestError: the spec leaves it to the data; the message names the key to set.
    """
    config = spec.model.config
    if isinstance(spec.data, TextDataSpec):
        vocab = config.get("vocab_size", spec.data.vocab_size)
        count = CLASSES_OF_TEXTS if spec.task == "classification" else 0
        classes = tuple(map(str, range(count)))
        return TextFormat(spec.task, vocab, spec.data.max_length, classes, 0, 1, 2, "none")
    source = data_source(spec.data.source)
    assert isinstance(source, ImageSource)
    size = spec.data.image_size or source.image_size
    num_classes = source.num_classes or config.get("num_classes")
    if size is None:
        raise RequestError("data.image_size: set it, for the size is not known without the data")
    if num_classes is None:
        raise RequestError(
            "model.config.num_classes: set it, for the number of classes is not known without the"
            " data"
        )
    channels, names = source.channels, tuple(map(str, range(num_classes)))
    neutral = (0.5,) * channels
    return ImageFormat(channels, size, num_classes, names, neutral, neutral, "none")
