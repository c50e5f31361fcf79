"""Losses and weights that are not finite: where they came from, and when a training ends."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sortednet_cli.distributed.processes import SINGLE_PROCESS, Processes, ReportedByPeer
from sortednet_cli.engine.training.micro_batch import SubModelLoss
from sortednet_cli.errors import SortednetError, WorkError
from sortednet_cli.machine.transfer import fetch
from sortednet_cli.nesting import NestedNetwork


@dataclass
class LossWatch:
    """Counts updates whose loss is not finite, and looks at many of them at once.

    Reading a loss waits for the device, so an update is noted when it is made and read later.
    """

    limit: int
    count: int = 0
    _noted: list[tuple[int, Tensor, list[SubModelLoss]]] = field(default_factory=list)

    def note(self, update: int, loss: Tensor, own: list[SubModelLoss]) -> None:
        """Remember an update's loss, summed over all processes, and this process's own losses."""
        self._noted.append((update, loss, own))

    def check(self) -> bool:
        """Look at what was noted since the last time; return whether all of it is finite.

        Raises:
            WorkError: the loss of `limit` updates was not finite.
            ReportedByPeer: it was not, and another process knows where it came from.
        """
        noted, self._noted = self._noted, []
        if not noted:
            return True
        losses = torch.stack([loss for _, loss, _ in noted]).tolist()
        for (update, _, own), loss in zip(noted, losses, strict=True):
            if math.isfinite(loss):
                continue
            self.count += 1
            if self.count >= self.limit:
                raise _error(update, loss, own, self.count)
        return all(map(math.isfinite, losses))


def _error(update: int, loss: float, own: list[SubModelLoss], count: int) -> SortednetError:
    for part in own:
        value = float(part.loss)
        if not math.isfinite(value):
            before = f", after {count - 1} that were passed over" if count > 1 else ""
            return WorkError(
                f"the loss is {value} at update {update}: {part.submodel} on training batch"
                f" {part.batch}{before}; training diverged or the data are bad: lower train.lr,"
                " or raise train.max_nonfinite"
            )
    return ReportedByPeer(f"the loss is {loss} at update {update}")


def check_weights(
    network: NestedNetwork, update: int, processes: Processes = SINGLE_PROCESS
) -> None:
    """WorkError if a weight is not finite: no checkpoint is to hold it.

    Where each of the `processes` holds a part, all raise it if one does.
    """
    parts = network.local_weights
    finite = fetch([torch.isfinite(part).all() for part in parts.values()])
    wrong = [not bool(part) for part in finite]
    if network.sharded:
        wrong = list(processes.any(*wrong))
    for name, is_wrong in zip(parts, wrong, strict=True):
        if is_wrong:
            raise WorkError(
                f"{name} is not finite after update {update}: training diverged; lower train.lr"
            )
