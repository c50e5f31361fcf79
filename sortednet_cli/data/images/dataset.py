"""Opening a data set by its spec: one `Images`, whatever it came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sortednet_cli.data.images.augment import Augmentation
from sortednet_cli.data.images.cache import Decoded
from sortednet_cli.data.images.decode import Decoder, in_threads
from sortednet_cli.data.images.files import FolderTree
from sortednet_cli.data.images.format import (
    ImageFormat,
    channel_statistics,
    check_same,
    class_numbers,
)
from sortednet_cli.data.images.locate import StreamedFolder, locate
from sortednet_cli.data.images.memory import MemoryPart, MemoryTrainingPart
from sortednet_cli.data.images.remarks import Remarks, Told, tell
from sortednet_cli.data.images.stream import FileReader, StreamPart, StreamTrainingPart
from sortednet_cli.data.inputs import Part
from sortednet_cli.data.order import EpochOrder
from sortednet_cli.data.split import PartName, split_parts
from sortednet_cli.errors import shortened
from sortednet_cli.spec import ImageDataSpec

STATISTICS_SAMPLES = 2048
Batch = tuple[Tensor, Tensor]


class TrainingPart(Part, Protocol):
    """The part that also serves augmented batches in random order."""

    def training_batch(
        self, index: int, *, batch_size: int, seed: int, device: torch.device
    ) -> Batch:
        """Return one training batch, a pure function of the arguments."""
        ...

    def training_batches(
        self, start: int, *, batch_size: int, seed: int, device: torch.device, stride: int
    ) -> Iterator[Batch]:
        """Yield training batches start, start + stride, ... without end."""
        ...


class Images:
    """An opened data set: its format and its three parts."""

    def __init__(
        self, image_format: ImageFormat, train: TrainingPart, validation: Part, test: Part
    ) -> None:
        self.format = image_format
        self.train: Part = train
        self.validation = validation
        self.test = test
        self._training = train

    def batches_per_epoch(self, batch_size: int) -> int:
        """Count the whole batches of the training part; RequestError if there is not one."""
        return EpochOrder(len(self.train)).batches_per_epoch(batch_size)

    def training_batch(
        self, index: int, *, batch_size: int, seed: int, device: torch.device
    ) -> Batch:
        """Return training batch `index`, counted from 0 over the whole training.

        Augmented and normalised float32 [B, C, H, W] and int64 [B]: a pure function of the
        arguments. An epoch holds each sample at most once. Raises RequestError if
        `batch_size` is larger than the part.
        """
        return self._training.training_batch(index, batch_size=batch_size, seed=seed, device=device)

    def training_batches(
        self,
        start: int,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        stride: int = 1,
    ) -> Iterator[Batch]:
        """Yield `training_batch` of start, start + stride, ... without end, reading ahead."""
        return self._training.training_batches(
            start, batch_size=batch_size, seed=seed, device=device, stride=stride
        )


def open_images(spec: ImageDataSpec, *, known: ImageFormat | None = None) -> Images:
    """Open the images that a spec names; `known` is the format a model was made for.

    With `known`, its mean, deviation and numbers of classes are used; channels and size must be
    the same, and classes among its own. Raises RequestError for data that are not as the spec or
    `known` says, and WorkError if a download fails.
    """
    name, located = locate(spec, with_all_classes=known is None)
    if isinstance(located, StreamedFolder):
        return _streamed(name, located, spec, known)
    return _in_memory(name, located, spec, known)


def _in_memory(
    name: str, decoded: Decoded, spec: ImageDataSpec, known: ImageFormat | None
) -> Images:
    shape = decoded.parts["train"][0].shape
    image_format, numbers = _format(name, decoded.classes, shape[1], shape[2], known)
    labels = {part: labels.numpy() for part, (_, labels) in decoded.parts.items()}
    tensors: dict[PartName, tuple[Tensor, Tensor]] = {}
    for part, (found, indices) in split_parts(labels, spec, decoded.classes).items():
        chosen = torch.from_numpy(indices)
        images, own = (tensor.index_select(0, chosen) for tensor in decoded.parts[found])
        tensors[part] = images, numbers[own]
    train = tensors["train"][0]
    if known is None:
        mean, std = channel_statistics(train)
        image_format = dataclasses.replace(image_format, mean=mean, std=std)
    return Images(
        image_format,
        MemoryTrainingPart(*tensors["train"], image_format, _augmentation(spec)),
        MemoryPart(*tensors["validation"], image_format),
        MemoryPart(*tensors["test"], image_format),
    )


def _streamed(
    name: str, streamed: StreamedFolder, spec: ImageDataSpec, known: ImageFormat | None
) -> Images:
    tree, decoder = streamed.tree, streamed.decoder
    layout = tree.layout
    found_labels = {
        part: np.array([sample.label for sample in samples], dtype=np.int64)
        for part, samples in layout.parts.items()
    }
    reader, told = FileReader(tree.root, decoder, _augmentation(spec)), Told(tree.root)
    split = split_parts(found_labels, spec, layout.classes)
    names = {
        part: [layout.parts[found][index].name for index in indices]
        for part, (found, indices) in split.items()
    }
    image_format, numbers = _format(name, layout.classes, decoder.channels, decoder.size, known)
    labels = {
        part: numbers.numpy()[found_labels[found][indices]]
        for part, (found, indices) in split.items()
    }
    if known is None:
        mean, std = _sampled_statistics(tree, decoder, names["train"], told)
        image_format = dataclasses.replace(image_format, mean=mean, std=std)
    rest = (reader, image_format, spec.workers, told)
    return Images(
        image_format,
        StreamTrainingPart(names["train"], labels["train"], *rest),
        StreamPart(names["validation"], labels["validation"], *rest),
        StreamPart(names["test"], labels["test"], *rest),
    )


def _format(
    name: str, classes: tuple[str, ...], channels: int, size: int, known: ImageFormat | None
) -> tuple[ImageFormat, Tensor]:
    """State the format of the data, and the number in it of each class of theirs, int64.

    It is `known` but for the name, or has no statistics yet.
    """
    found = ImageFormat(channels, size, len(classes), classes, (), (), name)
    if known is None:
        return found, torch.arange(len(classes))
    check_same(found, known)
    numbers = class_numbers(found, known)
    lacking = sorted(set(range(known.num_classes)) - set(numbers.tolist()))
    if lacking:
        names = shortened([known.classes[number] for number in lacking])
        tell(name, [f"no images of {len(lacking)} of {known.num_classes} classes: {names}"])
    return dataclasses.replace(known, source=name), numbers


def _sampled_statistics(
    tree: FolderTree, decoder: Decoder, names: list[str], told: Told
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure the first samples of the training part: all of it may be millions of files."""

    def work(chunk: list[str]) -> tuple[Tensor, Remarks]:
        own: Remarks = []
        pixels = np.stack([decoder(tree.read(name), name, own) for name in chunk])
        return torch.from_numpy(pixels), own

    chunks = []
    for pixels, remarks in in_threads(work, names[:STATISTICS_SAMPLES]):
        chunks.append(pixels)
        told.tell_new(remarks)
    return channel_statistics(torch.cat(chunks))


def _augmentation(spec: ImageDataSpec) -> Augmentation:
    return Augmentation(spec.augment, spec.crop_padding, spec.flip)
