"""Opening a data set by its spec: one `Images`, whatever it came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sortednet_cli.data.augment import Augmentation
from sortednet_cli.data.cache import Decoded
from sortednet_cli.data.decode import Decoder, in_threads
from sortednet_cli.data.files import FolderTree
from sortednet_cli.data.format import ImageFormat, channel_statistics, check_same
from sortednet_cli.data.inputs import Part
from sortednet_cli.data.memory import MemoryPart, MemoryTrainingPart
from sortednet_cli.data.order import EpochOrder
from sortednet_cli.data.sources import StreamedFolder, locate
from sortednet_cli.data.split import PartName, split_parts
from sortednet_cli.data.stream import FileReader, StreamPart, StreamTrainingPart
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

    With `known`, its mean and deviation are used, and classes, channels and size must be
    the same. Raises RequestError for data that are not as the spec or `known` says, and
    WorkError if a download fails.
    """
    name, located = locate(spec)
    if isinstance(located, StreamedFolder):
        return _streamed(name, located, spec, known)
    return _in_memory(name, located, spec, known)


def _in_memory(
    name: str, decoded: Decoded, spec: ImageDataSpec, known: ImageFormat | None
) -> Images:
    labels = {part: labels.numpy() for part, (_, labels) in decoded.parts.items()}
    tensors: dict[PartName, tuple[Tensor, Tensor]] = {}
    for part, (found, indices) in split_parts(labels, spec, decoded.classes).items():
        chosen = torch.from_numpy(indices)
        tensors[part] = tuple(t.index_select(0, chosen) for t in decoded.parts[found])  # type: ignore[assignment]
    train = tensors["train"][0]
    image_format = _format(name, decoded.classes, train.shape[1], train.shape[2], known)
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
    reader = FileReader(tree.root, decoder, _augmentation(spec))
    split = split_parts(found_labels, spec, layout.classes)
    names = {
        part: [layout.parts[found][index].name for index in indices]
        for part, (found, indices) in split.items()
    }
    labels = {part: found_labels[found][indices] for part, (found, indices) in split.items()}
    image_format = _format(name, layout.classes, decoder.channels, decoder.size, known)
    if known is None:
        mean, std = _sampled_statistics(tree, decoder, names["train"])
        image_format = dataclasses.replace(image_format, mean=mean, std=std)
    workers = spec.workers
    return Images(
        image_format,
        StreamTrainingPart(names["train"], labels["train"], reader, image_format, workers),
        StreamPart(names["validation"], labels["validation"], reader, image_format, workers),
        StreamPart(names["test"], labels["test"], reader, image_format, workers),
    )


def _format(
    name: str, classes: tuple[str, ...], channels: int, size: int, known: ImageFormat | None
) -> ImageFormat:
    """State the format of the data, with the statistics of `known` or none yet."""
    mean, std = (known.mean, known.std) if known else ((), ())
    found = ImageFormat(channels, size, len(classes), classes, mean, std, name)
    if known is not None:
        check_same(found, known)
    return found


def _sampled_statistics(
    tree: FolderTree, decoder: Decoder, names: list[str]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure the first samples of the training part: all of it may be millions of files."""

    def work(chunk: list[str]) -> Tensor:
        return torch.from_numpy(np.stack([decoder(tree.read(name), name) for name in chunk]))

    return channel_statistics(torch.cat(list(in_threads(work, names[:STATISTICS_SAMPLES]))))


def _augmentation(spec: ImageDataSpec) -> Augmentation:
    return Augmentation(spec.augment, spec.crop_padding, spec.flip)
