"""What can go wrong in the middle of a training, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sortednet_cli.distributed.processes import ALONE, Elsewhere, Processes
from sortednet_cli.errors import WorkError
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.space import SubModel


@dataclass(frozen=True)
class Part:
    """The loss of one sub-model on one batch of this process."""

    submodel: SubModel
    batch: int
    loss: Tensor


@dataclass
class LossWatch:
    """Finds losses that are no numbers; looks at them all at once, when asked.

    Reading a loss waits for the device, so updates are noted as they are made.
    """

    limit: int
    found: int = 0
    _noted: list[tuple[int, Tensor, list[Part]]] = field(default_factory=list)

    def note(self, update: int, loss: Tensor, parts: list[Part]) -> None:
        """Remember an update's loss, summed over all processes, and this process's parts."""
        self._noted.append((update, loss, parts))

    def check(self) -> None:
        """Look at what was noted since the last time.

        Raises:
            WorkError: as many updates as `limit` had a loss that is no number.
            Elsewhere: they had, and another process knows where it came from.
        """
        noted, self._noted = self._noted, []
        if not noted:
            return
        losses = torch.stack([loss for _, loss, _ in noted]).tolist()
        for (update, _, parts), loss in zip(noted, losses, strict=True):
            if abs(loss) < float("inf"):
                continue
            self.found += 1
            if self.found >= self.limit:
                raise _told(update, loss, parts, self.found)


def _told(update: int, loss: float, parts: list[Part], found: int) -> Exception:
    for part in parts:
        value = float(part.loss)
        if not abs(value) < float("inf"):
            count = f", after {found - 1} that were passed over" if found > 1 else ""
            return WorkError(
                f"the loss is {value} at update {update}: {part.submodel} on training batch"
                f" {part.batch}{count}; training diverged or the data are bad: lower train.lr,"
                " or raise train.max_nonfinite"
            )
    return Elsewhere(f"the loss is {loss} at update {update}")


def check_weights(network: NestedNetwork, update: int, processes: Processes = ALONE) -> None:
    """WorkError if weights are no numbers any more: no checkpoint is to hold them.

    Where each of the `processes` holds a part, all raise it if one does.
    """
    parts = network.own_weights
    wrong = [not bool(torch.isfinite(part).all()) for part in parts.values()]
    if network.sharded:
        wrong = list(processes.any(*wrong))
    for name, found in zip(parts, wrong, strict=True):
        if found:
            raise WorkError(
                f"{name} is not finite after update {update}: training diverged; lower train.lr"
            )
