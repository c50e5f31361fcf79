"""Parts in memory, one uint8 tensor each; batches are augmented on the model's device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Generator, Tensor

from sortednet_cli.data.images.augment import Augmentation, normalise
from sortednet_cli.data.images.format import ImageFormat, scale_and_shift
from sortednet_cli.data.order import EpochOrder
from sortednet_cli.machine.transfer import send
from sortednet_cli.seeds import stream_seed

Batch = tuple[Tensor, Tensor]


class MemoryPart:
    """One part of a data set in memory: images uint8 [N, C, H, W], labels int64 [N]."""

    num_bytes = 0

    def __init__(self, images: Tensor, labels: Tensor, image_format: ImageFormat) -> None:
        self.images = images
        self.labels = labels
        self._scale, self._shift = scale_and_shift(image_format)
        self._on_device: tuple[torch.device, tuple[Tensor, ...]] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self, batch_size: int, device: torch.device, limit: int | None = None
    ) -> Iterator[Batch]:
        """Yield the first `limit` samples (all by default) in order, without augmentation.

        Images are normalised float32 [B, C, H, W], labels int64 [B], on `device`; the last
        batch may be smaller.
        """
        images, labels, scale, shift = self.on(device)
        stop = len(self) if limit is None else min(limit, len(self))
        for start in range(0, stop, batch_size):
            indices = slice(start, min(start + batch_size, stop))
            yield normalise(images[indices], scale, shift), labels[indices]

    def on(self, device: torch.device) -> tuple[Tensor, ...]:
        """Return images, labels, scale and shift on `device`; the copy there is cached."""
        device = torch.device(device)
        if self._on_device is None or self._on_device[0] != device:
            tensors = (self.images, self.labels, self._scale, self._shift)
            self._on_device = (device, tuple(tensor.to(device) for tensor in tensors))
        return self._on_device[1]


class MemoryTrainingPart(MemoryPart):
    """The training part in memory; it also yields augmented batches in random order."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        image_format: ImageFormat,
        augmentation: Augmentation,
    ) -> None:
        super().__init__(images, labels, image_format)
        self._augmentation = augmentation
        self._order = EpochOrder(len(labels))

    def training_batch(
        self, index: int, *, batch_size: int, seed: int, device: torch.device
    ) -> Batch:
        """Return training batch `index`, which counts from 0 over all epochs.

        A pure function of its arguments: normalised float32 [B, C, H, W], int64 [B].
        """
        images, labels, scale, shift = self.on(device)
        indices = send(self._order.samples(index, batch_size, seed), labels.device)
        generator = Generator().manual_seed(stream_seed(seed, "augment", index))
        pixels = self._augmentation(images.index_select(0, indices), generator)
        return normalise(pixels, scale, shift), labels.index_select(0, indices)

    def training_batches(
        self, numbers: Iterable[int], *, batch_size: int, seed: int, device: torch.device
    ) -> Iterator[Batch]:
        """Yield the training batches of these numbers."""
        for index in numbers:
            yield self.training_batch(index, batch_size=batch_size, seed=seed, device=device)
