"""Parts that are read from image files on demand, by worker processes that read ahead.

A sample depends only on its file and on a seed that is sent with its index, so batches do not
depend on the number of workers.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from sortednet_cli.data.images.augment import Augmentation, draw_boxes, normalise, random_flip
from sortednet_cli.data.images.decode import ImageDecoder, resize_and_crop, to_pixels
from sortednet_cli.data.images.files import read_file
from sortednet_cli.data.images.format import ImageFormat, scale_and_shift
from sortednet_cli.data.images.pillow import open_image
from sortednet_cli.data.images.remarks import RemarkLog, Remarks
from sortednet_cli.data.order import EpochOrder
from sortednet_cli.errors import RequestError
from sortednet_cli.machine.transfer import send
from sortednet_cli.seeds import stream_seed

# After training on random crops, evaluation uses the central 87.5%, as is usual on ImageNet.
EVAL_CROP = 0.875
# The index of a sample and the seed of its augmentation; None means no augmentation.
Key = tuple[int, int | None]
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class FileReader:
    """Reads one image as uint8 [C, size, size], with or without augmentation."""

    root: Path
    decoder: ImageDecoder
    augmentation: Augmentation

    def read(self, name: str, seed: int | None, remarks: Remarks) -> Tensor:
        """Read and decode a file of the tree; RequestError names one that cannot be read."""
        data, decoder = read_file(self.root, name), self.decoder
        if self.augmentation.kind != "resized-crop":
            plain = torch.from_numpy(decoder(data, name, remarks).copy())
            if seed is None:
                return plain
            return self.augmentation(plain[None], Generator().manual_seed(seed))[0]
        image = open_image(data, name, decoder.channels, remarks)
        if seed is None:
            shorter = round(decoder.size / EVAL_CROP)
            image = resize_and_crop(image, shorter, decoder.size)
            return torch.from_numpy(to_pixels(image).copy())
        generator = Generator().manual_seed(seed)
        top, left, height, width = draw_boxes(1, image.height, image.width, generator)[0].tolist()
        box = (left, top, left + width, top + height)
        image = image.resize((decoder.size,) * 2, Image.Resampling.BILINEAR, box=box)
        pixels = torch.from_numpy(to_pixels(image).copy())
        return random_flip(pixels[None], generator)[0] if self.augmentation.flip else pixels


Read = tuple[Tensor, int, Remarks]
"""Pixels [C, H, W], label and remarks of one sample."""

Collated = tuple[NDArray[Any], NDArray[np.int64], Remarks]
"""Pixels [B, C, H, W], uint8 or float32, labels [B] and remarks of a batch."""


class _Files(Dataset[Read]):
    """Samples by key. The error of a damaged file is returned: raising it in a worker process would
    lose its message."""

    def __init__(self, names: Iterable[str], labels: NDArray[np.int64], reader: FileReader) -> None:
        # An array, as worker processes would copy every memory page of a list's objects.
        self.names = np.array([os.fsencode(name) for name in names])
        self.labels = labels
        self.reader = reader

    def __getitem__(self, key: Key) -> Read | str:  # type: ignore[override]
        index, seed = key
        name = os.fsdecode(bytes(self.names[index]))
        try:
            remarks: Remarks = []
            return self.reader.read(name, seed, remarks), int(self.labels[index]), remarks
        except RequestError as error:
            return str(error)


def _collate(samples: list[Read | str]) -> Collated | str:
    """Collate samples into arrays, which are sent to the parent process through a pipe.

    Tensors would need shared memory, of which a container has 64 MiB by default. When that is
    full, a worker's batch never arrives.
    """
    for sample in samples:
        if isinstance(sample, str):
            return sample
    pixels, labels, remarks = zip(*(s for s in samples if not isinstance(s, str)), strict=True)
    remark_log = list(chain.from_iterable(remarks))
    return torch.stack(pixels).numpy(), np.array(labels, dtype=np.int64), remark_log


def _start_worker(_: int) -> None:
    # An interrupt reaches the whole process group, but only the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class StreamPart:
    """One part of a data set in files. Only the batches read ahead are in memory."""

    num_bytes = 0

    def __init__(
        self,
        names: list[str],
        labels: NDArray[np.int64],
        reader: FileReader,
        image_format: ImageFormat,
        workers: int,
        remark_log: RemarkLog,
    ) -> None:
        self._files = _Files(names, labels, reader)
        self._workers = min(workers, os.cpu_count() or 1)
        self._remark_log = remark_log
        self._scale, self._shift = scale_and_shift(image_format)

    def __len__(self) -> int:
        return len(self._files.labels)

    def batches(
        self, batch_size: int, device: torch.device, limit: int | None = None
    ) -> Iterator[Batch]:
        """Yield the first `limit` samples (all by default) in order, without augmentation.

        Images are normalised float32 [B, C, H, W], labels int64 [B], on `device`; the last
        batch may be smaller.
        """
        stop = len(self) if limit is None else min(limit, len(self))
        keys: Iterable[list[Key]] = (
            [(index, None) for index in range(start, min(start + batch_size, stop))]
            for start in range(0, stop, batch_size)
        )
        yield from self._load(keys, device, self._workers)

    def _load(
        self, keys: Iterable[list[Key]], device: torch.device, workers: int
    ) -> Iterator[Batch]:
        device = torch.device(device)
        scale, shift = self._scale.to(device), self._shift.to(device)
        loader = DataLoader(
            self._files,
            batch_sampler=keys,
            num_workers=workers,
            collate_fn=_collate,
            worker_init_fn=_start_worker,
            # Otherwise DataLoader draws from the global generator, which dropout uses.
            generator=Generator().manual_seed(0),
        )
        for batch in loader:
            if isinstance(batch, str):
                raise RequestError(batch)
            pixels, labels, remarks = batch
            self._remark_log.log_new(remarks)
            images = normalise(send(torch.from_numpy(pixels), device), scale, shift)
            yield images, send(torch.from_numpy(labels), device)


class StreamTrainingPart(StreamPart):
    """The training part in files; it also yields augmented batches in random order."""

    def training_batch(
        self, index: int, *, batch_size: int, seed: int, device: torch.device
    ) -> Batch:
        """Return training batch `index`, which counts from 0 over all epochs.

        A pure function of its arguments: normalised float32 [B, C, H, W], int64 [B]. It does not
        read ahead; `training_batches` is faster.
        """
        keys = self._keys([index], batch_size, seed)
        return next(self._load(keys, device, workers=0))

    def training_batches(
        self, numbers: Iterable[int], *, batch_size: int, seed: int, device: torch.device
    ) -> Iterator[Batch]:
        """Yield the training batches of these numbers, reading ahead."""
        yield from self._load(self._keys(numbers, batch_size, seed), device, self._workers)

    def _keys(self, numbers: Iterable[int], batch_size: int, seed: int) -> Iterator[list[Key]]:
        order = EpochOrder(len(self))
        for index in numbers:
            indices = order.samples(index, batch_size, seed).tolist()
            yield [
                (sample, stream_seed(seed, "augment", index, position))
                for position, sample in enumerate(indices)
            ]
