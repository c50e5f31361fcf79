"""What the parts of every text task have in common: batches in order and batches at random."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from sortednet_cli.data.order import EpochOrder
from sortednet_cli.logs import logger
from sortednet_cli.seeds import stream_seed

Inputs = dict[str, Tensor]
Batch = tuple[Inputs, Tensor]


class TextPart(ABC):
    """One of train, validation and test: samples are texts, pieces or packed windows.

    `num_bytes` counts the UTF-8 bytes of the text that the scored targets of causal-lm and
    answers cover, `num_targets` those targets; both are 0 for the tasks that score no text
    from end to end.
    """

    num_bytes: int = 0
    num_targets: int = 0

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def gather(self, chosen: Tensor, generator: Generator | None) -> Batch:
        """Make the batch of samples `chosen`, int64 [B]; `generator` is for training alone."""

    def batches(
        self, batch_size: int, device: torch.device, limit: int | None = None
    ) -> Iterator[Batch]:
        """Yield the first `limit` samples (all by default) in order, on `device`.

        Inputs are int64 [B, T] by name, targets int64 [B] for classes and [B, T] for tokens,
        already shifted, -100 where nothing is scored. The last batch may be smaller.
        """
        stop = len(self) if limit is None else min(limit, len(self))
        for start in range(0, stop, batch_size):
            chosen = torch.arange(start, min(start + batch_size, stop))
            yield _placed(self.gather(chosen, None), device)


class TrainingTexts:
    """Training batches of a part: whole ones, in a new random order every epoch."""

    def __init__(self, part: TextPart) -> None:
        self._part = part
        self._order = EpochOrder(len(part), noun="sequences")

    def batches_per_epoch(self, batch_size: int) -> int:
        """Count the whole batches of an epoch, or raise RequestError if there is not one."""
        return self._order.batches_per_epoch(batch_size)

    def batch(self, index: int, *, batch_size: int, seed: int, device: torch.device) -> Batch:
        """Return training batch `index`: a pure function of the arguments."""
        chosen = self._order.samples(index, batch_size, seed)
        generator = Generator().manual_seed(stream_seed(seed, "mask", index))
        return _placed(self._part.gather(chosen, generator), device)


@dataclass
class Truncation:
    """Counts the sequences of a whole data set, and those that were too long."""

    num_truncated: int = 0
    num_sequences: int = 0

    def count(self, truncated: int, sequences: int) -> None:
        """Add some sequences, `truncated` of them cut."""
        self.num_truncated += truncated
        self.num_sequences += sequences

    def warn(self, max_length: int) -> None:
        """Say so, once, if any was cut."""
        if self.num_truncated:
            logger.warning(
                "%s of %s sequences are longer than %d tokens and were truncated",
                f"{self.num_truncated:,}",
                f"{self.num_sequences:,}",
                max_length,
            )


def padded_length(lengths: Tensor, max_length: int) -> int:
    """Return the width of a batch: its longest sequence, rounded up to a multiple of 8."""
    return min(max_length, -(-int(lengths.max()) // 8) * 8)


def _placed(batch: Batch, device: torch.device) -> Batch:
    inputs, targets = batch
    return {name: tensor.to(device) for name, tensor in inputs.items()}, targets.to(device)
