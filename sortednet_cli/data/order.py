"""The training samples of each batch, as a function of the seed and the batch's number."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count as endless
from itertools import islice

import torch
from torch import Generator, Tensor

from sortednet_cli.errors import RequestError
from sortednet_cli.seeds import stream_seed


def batch_numbers(start: int, stride: int, count: int | None) -> Iterator[int]:
    """Yield start, start + stride, ...: `count` numbers, or endlessly."""
    return islice(endless(start, stride), count)


class EpochOrder:
    """A new random order of `num_samples` samples in every epoch, in full batches.

    `noun` names the samples in messages.
    """

    def __init__(self, num_samples: int, *, noun: str = "images") -> None:
        self._num_samples = num_samples
        self._noun = noun
        self._current: tuple[tuple[int, int], Tensor] | None = None

    def batches_per_epoch(self, batch_size: int) -> int:
        """Count the full batches of an epoch; RequestError if there is none."""
        if batch_size > self._num_samples:
            raise RequestError(
                f"train.batch_size = {batch_size} is more than the {self._num_samples}"
                f" training {self._noun}"
            )
        return self._num_samples // batch_size

    def samples(self, index: int, batch_size: int, seed: int) -> Tensor:
        """Return the int64 sample indices [B] of batch `index`, which counts over all epochs."""
        epoch, position = divmod(index, self.batches_per_epoch(batch_size))
        order = self._epoch(epoch, seed)
        return order[position * batch_size : (position + 1) * batch_size]

    def _epoch(self, epoch: int, seed: int) -> Tensor:
        if self._current is None or self._current[0] != (epoch, seed):
            generator = Generator().manual_seed(stream_seed(seed, "order", epoch))
            order = torch.randperm(self._num_samples, generator=generator)
            self._current = ((epoch, seed), order)
        return self._current[1]
