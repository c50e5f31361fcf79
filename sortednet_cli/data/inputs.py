"""What every kind of data offers the engine, whether it is images or texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from sortednet_cli.families import Inputs

Batch = tuple[Inputs, Tensor]
"""What a module is called with, and the targets: int64 class numbers, -100 for none."""


class InputFormat(Protocol):
    """What the model must know of its inputs; a frozen dataclass of plain values."""

    @property
    def source(self) -> str:
        """Name of the data, never where it lies."""
        ...

    @property
    def kind(self) -> str:
        """`image` or `text`."""
        ...

    @property
    def task(self) -> str:
        """What is to be learnt, as a spec names it."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; none where tokens are predicted."""
        ...

    @property
    def unit(self) -> str:
        """What costs are counted for: an image or a token."""
        ...

    @property
    def num_units(self) -> int:
        """Units of one sample at the task's input size."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """What a family completes its root configuration with."""
        ...

    def random_inputs(self, count: int, generator: Generator | None = None) -> Inputs:
        """Make random inputs of `count` samples at the task's input size."""
        ...

    def output_shape(self, count: int) -> tuple[int, ...]:
        """Shape of the logits that a model gives for `random_inputs(count)`."""
        ...

    def card_lines(self, has_tokenizer: bool) -> list[str]:
        """Say what a model takes and gives, for the card of a folder."""
        ...


class Part(Protocol):
    """One of train, validation and test, as read: always the same samples in the same order."""

    def __len__(self) -> int: ...

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes that the scored targets stand for; 0 where they are no text."""
        ...

    def batches(
        self, batch_size: int, device: torch.device, limit: int | None = None
    ) -> Iterator[Batch]:
        """Yield the first `limit` samples (all by default) in order, not augmented.

        The last batch may be smaller. The order is shuffled once and for all, so the first
        samples are a fair sample of the part.
        """
        ...


class Dataset(Protocol):
    """An opened data set: its format and its three parts."""

    @property
    def format(self) -> InputFormat: ...
    @property
    def train(self) -> Part: ...
    @property
    def validation(self) -> Part: ...
    @property
    def test(self) -> Part: ...

    def batches_per_epoch(self, batch_size: int) -> int:
        """Count the whole batches of the training part; RequestError if there is not one."""
        ...

    def training_batches(
        self, start: int, *, batch_size: int, seed: int, device: torch.device, stride: int = 1
    ) -> Iterator[Batch]:
        """Yield training batches start, start + stride, ... without end.

        Each is a pure function of its number, the batch size and the seed.
        """
        ...
