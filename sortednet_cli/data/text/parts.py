"""Common code of the parts of all text tasks: ordered batches and random training batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from sortednet_cli.data.order import EpochOrder
from sortednet_cli.logs import logger
from sortednet_cli.machine.transfer import send
from sortednet_cli.seeds import stream_seed

Inputs = dict[str, Tensor]
Batch = tuple[Inputs, Tensor]


class TextPart(ABC):
    """One of train, validation and test; a sample is a text, a piece of one, or a packed window.

    Attributes:
        num_bytes: UTF-8 bytes of the text that the scored targets spell, for the tasks causal-lm
            and answers; 0 for other tasks, whose targets spell no text.
        num_targets: number of these targets; 0 for other tasks.
    """

    num_bytes: int = 0
    num_targets: int = 0

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def make_batch(self, indices: Tensor, generator: Generator | None) -> Batch:
        """Make a batch of the samples `indices`, int64 [B]; only training passes a `generator`."""

    def batches(
        self, batch_size: int, device: torch.device, limit: int | None = None
    ) -> Iterator[Batch]:
        """Yield the first `limit` samples (all by default) in order, in batches.

        Inputs are int64 [B, T] by name, on `device`. Targets are classes, int64 [B], or tokens,
        [B, T], already shifted, and -100 at positions that are not scored; they stay on the host,
        where tasks look at them. The last batch may be smaller.
        """
        stop = len(self) if limit is None else min(limit, len(self))
        for start in range(0, stop, batch_size):
            indices = torch.arange(start, min(start + batch_size, stop))
            yield _to_device(self.make_batch(indices, None), device)


class TrainingTexts:
    """Training batches of a part: full batches, in a new random order every epoch."""

    def __init__(self, part: TextPart) -> None:
        self._part = part
        self._order = EpochOrder(len(part), noun="sequences")

    def batches_per_epoch(self, batch_size: int) -> int:
        """Count the full batches of an epoch; RequestError if there is none."""
        return self._order.batches_per_epoch(batch_size)

    def batch(self, index: int, *, batch_size: int, seed: int, device: torch.device) -> Batch:
        """Return training batch `index`, a pure function of the arguments."""
        indices = self._order.samples(index, batch_size, seed)
        generator = Generator().manual_seed(stream_seed(seed, "mask", index))
        return _to_device(self._part.make_batch(indices, generator), device)


@dataclass
class Truncation:
    """Counts the sequences of a data set, and how many were truncated."""

    num_truncated: int = 0
    num_sequences: int = 0

    def count(self, truncated: int, sequences: int) -> None:
        """Add to both counts."""
        self.num_truncated += truncated
        self.num_sequences += sequences

    def warn(self, max_length: int) -> None:
        """Log one warning if any sequence was truncated."""
        if self.num_truncated:
            logger.warning(
                "%s of %s sequences are longer than %d tokens and were truncated",
                f"{self.num_truncated:,}",
                f"{self.num_sequences:,}",
                max_length,
            )


def padded_length(lengths: Tensor, max_length: int) -> int:
    """Return the length T of a batch: its longest sequence, rounded up to a multiple of 8."""
    return min(max_length, -(-int(lengths.max()) // 8) * 8)


def _to_device(batch: Batch, device: torch.device) -> Batch:
    inputs, targets = batch
    return {name: send(tensor, device) for name, tensor in inputs.items()}, targets
