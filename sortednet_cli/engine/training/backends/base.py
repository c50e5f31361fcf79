"""What a training asks of the way in which its network lies on its processes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from sortednet_cli.distributed.processes import Processes
from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.errors import RequestError
from sortednet_cli.families import Family, Inputs
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import RunSpec
from sortednet_cli.storage.checkpoint import Checkpoint
from sortednet_cli.storage.checks import FileCheck
from sortednet_cli.storage.manifest import Counters
from sortednet_cli.storage.run import RunFolder

Item = TypeVar("Item")

Samples = Callable[[int], Sequence[Inputs]]
"""Reads the inputs of the first training batches, so many of them."""

Beginning = tuple[NestedNetwork, RootOptimizer, Checkpoint | Counters | None]
"""The third tells how far the newest checkpoint had come, if there is one."""


class Backend(ABC):
    """Opens, saves and shares the network of a training; every process has one.

    Attributes:
        whole_after_loss: whether a process holds a whole state when another one has died.
    """

    whole_after_loss: bool

    def __init__(self, processes: Processes) -> None:
        self.processes = processes

    @abstractmethod
    def begin(
        self,
        run: RunFolder,
        spec: RunSpec,
        family: Family,
        device: torch.device,
        samples: Samples,
    ) -> Beginning:
        """Make network and optimizer: fresh, pretrained, or of the newest checkpoint.

        Args:
            samples: reads the inputs of so many training batches.

        Raises:
            RequestError: a file does not belong to the model, or to the search space.
        """

    @abstractmethod
    def stops(self, asked: bool) -> bool:
        """Whether this process ends now, given that it was asked to."""

    @abstractmethod
    def wait_for_device(self, device: torch.device, stopped: Callable[[], bool]) -> None:
        """Wait until what was asked of the device is done, or this process is asked to stop.

        Raises:
            PeerLost: it was, or has waited long: a sum with a process that died never ends.
        """

    @abstractmethod
    def save(self, run: RunFolder, state: Callable[[], Checkpoint]) -> None:
        """Write a checkpoint; every process calls it.

        Raises:
            PeerLost: another process has gone; the checkpoint before this one stands.
            WorkError: it cannot be written.
        """

    @abstractmethod
    def write_weights(self, path: Path, network: NestedNetwork) -> dict[Path, FileCheck]:
        """Write a network's weights into one file; every process calls it.

        Returns:
            The file's checksum, in the process that wrote it.
        """

    @abstractmethod
    def scored_here(self, groups: Sequence[Item]) -> Sequence[Item]:
        """The groups of sub-models that this process scores, or takes its part in."""

    @property
    @abstractmethod
    def groups_at_once(self) -> int:
        """How many groups all processes score at the same time."""


def check_space(run: RunFolder, space: SearchSpace, saved: Checkpoint | Counters) -> None:
    """RequestError if a checkpoint is of another search space."""
    if saved.space != space.as_lists():
        raise RequestError(
            f"{run.path}: the checkpoint was trained under another search space"
            f" ({saved.space}) than that of spec.toml ({space.as_lists()}):"
            " put the old one back, or train a new run"
        )
