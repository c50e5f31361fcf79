"""Open the images that a spec names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sortednet_cli.data.images.augment import Augmentation
from sortednet_cli.data.images.cache import Decoded
from sortednet_cli.data.images.decode import ImageDecoder, in_threads
from sortednet_cli.data.images.files import FolderTree
from sortednet_cli.data.images.format import (
    ImageFormat,
    channel_statistics,
    check_same,
    class_numbers,
)
from sortednet_cli.data.images.locate import StreamedFolder, locate
from sortednet_cli.data.images.memory import MemoryPart, MemoryTrainingPart
from sortednet_cli.data.images.remarks import RemarkLog, Remarks, log_lines
from sortednet_cli.data.images.stream import FileReader, StreamPart, StreamTrainingPart
from sortednet_cli.data.inputs import Part
from sortednet_cli.data.order import EpochOrder, batch_numbers
from sortednet_cli.data.split import PartName, split_parts
from sortednet_cli.errors import shortened
from sortednet_cli.spec import ImageDataSpec

STATISTICS_SAMPLES = 2048
Batch = tuple[Tensor, Tensor]


class TrainingPart(Part, Protocol):
    """The training part, which also yields augmented batches in random order."""

    def training_batch(
        self, index: int, *, batch_size: int, seed: int, device: torch.device
    ) -> Batch:
        """Return a training batch, a pure function of the arguments."""
        ...

    def training_batches(
        self, numbers: Iterable[int], *, batch_size: int, seed: int, device: torch.device
    ) -> Iterator[Batch]:
        """Yield the training batches of these numbers."""
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
        """Count the full batches of the training part; RequestError if there is none."""
        return EpochOrder(len(self.train)).batches_per_epoch(batch_size)

    def training_batch(
        self, index: int, *, batch_size: int, seed: int, device: torch.device
    ) -> Batch:
        """Return training batch `index`, which counts from 0 over all epochs.

        The batch is augmented and normalised float32 [B, C, H, W] with int64 labels [B], a pure
        function of the arguments. An epoch holds each sample at most once.

        Raises:
            RequestError: `batch_size` is larger than the part.
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
        count: int | None = None,
    ) -> Iterator[Batch]:
        """Yield training batches number start, start + stride, ...: `count`, or endlessly.

        Batches are read ahead.
        """
        numbers = batch_numbers(start, stride, count)
        return self._training.training_batches(
            numbers, batch_size=batch_size, seed=seed, device=device
        )


def open_images(spec: ImageDataSpec, *, known: ImageFormat | None = None) -> Images:
    """Open the images that a spec names; `known` is the format that a model was made for.

    If `known` is given, its mean, standard deviation and class numbers are used. The data must
    have the same channels and size, and no other classes.

    Raises:
        RequestError: the data does not match the spec or `known`.
        WorkError: a download failed.
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
    for part, (stored, order) in split_parts(labels, spec, decoded.classes).items():
        indices = torch.from_numpy(order)
        images, targets = (tensor.index_select(0, indices) for tensor in decoded.parts[stored])
        tensors[part] = images, numbers[targets]
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
    stored_labels = {
        part: np.array([sample.label for sample in samples], dtype=np.int64)
        for part, samples in layout.parts.items()
    }
    reader, remark_log = FileReader(tree.root, decoder, _augmentation(spec)), RemarkLog(tree.root)
    split = split_parts(stored_labels, spec, layout.classes)
    names = {
        part: [layout.parts[stored][index].name for index in indices]
        for part, (stored, indices) in split.items()
    }
    image_format, numbers = _format(name, layout.classes, decoder.channels, decoder.size, known)
    labels = {
        part: numbers.numpy()[stored_labels[stored][indices]]
        for part, (stored, indices) in split.items()
    }
    if known is None:
        mean, std = _sampled_statistics(tree, decoder, names["train"], remark_log)
        image_format = dataclasses.replace(image_format, mean=mean, std=std)
    common = (reader, image_format, spec.workers, remark_log)
    return Images(
        image_format,
        StreamTrainingPart(names["train"], labels["train"], *common),
        StreamPart(names["validation"], labels["validation"], *common),
        StreamPart(names["test"], labels["test"], *common),
    )


def _format(
    name: str, classes: tuple[str, ...], channels: int, size: int, known: ImageFormat | None
) -> tuple[ImageFormat, Tensor]:
    """Return the format, and the number in it of each of the data's classes, int64.

    The format is `known` with the data's name, or a new one whose mean and std are still empty.
    """
    data = ImageFormat(channels, size, len(classes), classes, (), (), name)
    if known is None:
        return data, torch.arange(len(classes))
    check_same(data, known)
    numbers = class_numbers(data, known)
    missing = sorted(set(range(known.num_classes)) - set(numbers.tolist()))
    if missing:
        names = shortened([known.classes[number] for number in missing])
        log_lines(name, [f"no images of {len(missing)} of {known.num_classes} classes: {names}"])
    return dataclasses.replace(known, source=name), numbers


def _sampled_statistics(
    tree: FolderTree, decoder: ImageDecoder, names: list[str], remark_log: RemarkLog
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure only the first training samples, as there may be millions of files."""

    def work(chunk: list[str]) -> tuple[Tensor, Remarks]:
        remarks: Remarks = []
        pixels = np.stack([decoder(tree.read(name), name, remarks) for name in chunk])
        return torch.from_numpy(pixels), remarks

    chunks = []
    for pixels, remarks in in_threads(work, names[:STATISTICS_SAMPLES]):
        chunks.append(pixels)
        remark_log.log_new(remarks)
    return channel_statistics(torch.cat(chunks))


def _augmentation(spec: ImageDataSpec) -> Augmentation:
    return Augmentation(spec.augment, spec.crop_padding, spec.flip)
