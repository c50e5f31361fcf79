"""The interface of data that images and texts share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from sortednet_cli.families import Inputs

Batch = tuple[Inputs, Tensor]
"""A module's inputs on its device, and the targets, which `Task.targets` sends there if they are
not: int64 classes or tokens, -100 at unscored positions."""


class InputFormat(Protocol):
    """Format of a model's inputs: a frozen dataclass of plain values."""

    @property
    def source(self) -> str:
        """Name of the data, without its path."""
        ...

    @property
    def kind(self) -> str:
        """`image` or `text`."""
        ...

    @property
    def task(self) -> str:
        """Task, as named in a spec."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; empty if tokens are predicted."""
        ...

    @property
    def unit(self) -> str:
        """Unit that costs are counted per: an image or a token."""
        ...

    @property
    def num_units(self) -> int:
        """Number of units in one sample at the task's input size."""
        ...

    def __hash__(self) -> int: ...

    def facts(self) -> Mapping[str, Any]:
        """Values with which a family completes its root configuration."""
        ...

    def random_inputs(self, count: int, generator: Generator | None = None) -> Inputs:
        """Make random inputs of `count` samples at the task's input size."""
        ...

    def output_shape(self, count: int) -> tuple[int, ...]:
        """Shape of a model's logits for `random_inputs(count)`."""
        ...

    def card_lines(self, has_tokenizer: bool) -> list[str]:
        """Describe a model's inputs and outputs, for its model card."""
        ...


class Part(Protocol):
    """One of the parts train, validation and test: the same samples in the same order."""

    def __len__(self) -> int: ...

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of the text that the scored targets spell; 0 if they spell none."""
        ...

    def batches(
        self, batch_size: int, device: torch.device, limit: int | None = None
    ) -> Iterator[Batch]:
        """Yield the first `limit` samples (all by default) in order, without augmentation.

        The last batch may be smaller. The order is random but fixed, so that the first samples
        represent the part.
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
        """Count the full batches of the training part; RequestError if there is none."""
        ...

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

        A batch depends only on its number, the batch size and the seed.
        """
        ...
