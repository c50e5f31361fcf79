"""How a network lies on the processes that train it: a whole one on each, or a part of it.

The only place that asks which of the two a training is.
"""

from __future__ import annotations

from sortednet_cli.distributed.processes import Processes
from sortednet_cli.engine.training.backends.base import Backend, Beginning
from sortednet_cli.spec import TrainSpec

__all__ = ["Backend", "Beginning", "backend_of"]


def backend_of(train: TrainSpec, processes: Processes) -> Backend:
    """The backend of a training. One process alone holds all there is: nothing is sharded then."""
    if train.shard and processes.count > 1:
        # FSDP takes half a second to import.
        from sortednet_cli.engine.training.backends.sharded import Sharded

        return Sharded(processes)
    from sortednet_cli.engine.training.backends.replicated import Replicated

    return Replicated(processes)
