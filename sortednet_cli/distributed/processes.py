"""The processes of one job: what they agree on, sum and gather. Knows no networks and no data.

Started alone, a process is a job of one and none of this communicates. Started by `torchrun`,
tensors on a GPU travel by its maker's library (NCCL, XCCL), everything else by gloo. Only bytes and
numbers are exchanged, no pickled objects.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from sortednet_cli import launch
from sortednet_cli.errors import SortednetError, WorkError
from sortednet_cli.machine.memory import enough_memory, lack_of_memory

Item = TypeVar("Item")

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others: scoring and checkpoints take their time."""

_GLOO = "/gloo/"
"""Stands in every error of gloo, which has no class of its own."""

_APART = "the processes of this training cannot reach each other"

GRACE_SECONDS = 2.0
"""How long the first process may take to tell what went wrong before another one does."""


class ReportedByPeer(SortednetError):
    """Another process failed, and told why: this one only has to leave, with the same code."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class PeerLost(WorkError):
    """Another process of the job has gone."""


@dataclass(frozen=True)
class Processes:
    """All processes of a job, as one of them sees them.

    Attributes:
        rank: this process's number.
        count: how many there are.
        store: a table that all of them see; None for a process on its own.
        launcher: the process that started them; None for a process on its own.
    """

    rank: int = 0
    count: int = 1
    store: Any = None
    launcher: int | None = None

    @property
    def leads(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    @property
    def abandoned(self) -> bool:
        """Whether the launcher has died: nobody is left to start, stop or wait for the job.

        Never so on Windows, where a process keeps the number of its dead parent.
        """
        return self.launcher is not None and os.getppid() != self.launcher

    def sum(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes.

        Raises:
            PeerLost: one of them has gone.
        """
        if self.count > 1:
            with lost_peers():
                dist.all_reduce(tensor)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Tell for each flag whether it is true in any process."""
        if self.count == 1:
            return flags
        found = torch.tensor(flags, dtype=torch.int32)
        self.sum(found)
        return tuple(bool(count) for count in found.tolist())

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """What this process does of work that is split over all."""
        return items[self.rank :: self.count]

    def same_start(self, tensors: list[Tensor]) -> None:
        """Give every process the first one's values."""
        if self.count > 1:
            with lost_peers():
                for tensor in tensors:
                    dist.broadcast(tensor, src=0)

    def gather(self, own: bytes) -> list[bytes]:
        """Collect bytes of all processes, in their order, in every process."""
        if self.count == 1:
            return [own]
        with lost_peers():
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
            dist.all_gather(sizes, torch.tensor([len(own)]))
            longest = max(int(size) for size in sizes)
            padded = torch.zeros(longest, dtype=torch.uint8)
            if own:
                padded[: len(own)] = torch.frombuffer(bytearray(own), dtype=torch.uint8)
            found = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.count)]
            dist.all_gather(found, padded)
        return [
            data[: int(size)].numpy().tobytes() for data, size in zip(found, sizes, strict=True)
        ]

    def lead(self, key: str, work: Callable[[], str]) -> str:
        """Let the first process do something, and tell all others its result.

        Args:
            key: names the thing done, once in a job.

        Raises:
            ReportedByPeer: it failed there; the first process raises what happened.
        """
        if self.store is None:
            return work()
        if not self.leads:
            with lost_peers():
                told = json.loads(self.store.get(key))
            if "error" in told:
                raise ReportedByPeer(told["error"], told["code"])
            return str(told["result"])
        try:
            result = work()
        except BaseException as error:
            code = getattr(error, "exit_code", ReportedByPeer.exit_code)
            self.store.set(key, json.dumps({"error": str(error), "code": code}))
            raise
        self.store.set(key, json.dumps({"result": result}))
        return result

    def may_tell(self) -> bool:
        """Whether it is for this process to say what went wrong: true in one of them.

        The first process comes first, for it knows most.
        """
        if self.store is None:
            return self.leads
        # The launcher terminates whoever is left as soon as one has died: not before it is told.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if not self.leads:
            time.sleep(GRACE_SECONDS)
        try:
            return bool(self.store.add("told", 1) == 1)
        except RuntimeError:  # the store has gone, and with it whoever kept it
            return self.leads


ALONE = Processes()
"""A process that was started on its own."""


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the job that `torchrun` started, or be a job of one.

    An error that leaves is told by one of the processes.
    """
    if launch.world_size() == 1:
        yield ALONE
        return
    launcher = os.getppid()
    with lost_peers(_APART):
        table, rank, count = next(rendezvous("env://", timeout=PATIENCE))
    # The launcher keeps one table for all attempts: addresses of dead processes are in it.
    store = PrefixStore(f"attempt-{launch.restarts()}", table)
    own: dict[str, Any] = {}
    if device.type != "cpu":
        kind = dist.get_default_backend_for_device(device)
        own = {"backend": f"cpu:gloo,{device.type}:{kind}", "device_id": device}
        # gloo tells of a peer's death. NCCL's watchdog would end this process before it has saved.
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
    with lost_peers(_APART):
        dist.init_process_group(
            **{"backend": "gloo", **own},
            store=store,
            rank=rank,
            world_size=count,
            timeout=PATIENCE,
        )
    processes, whole = Processes(rank, count, store, launcher), False
    try:
        with enough_memory("this process", "take fewer processes, or a device with more memory"):
            yield processes
        whole = True
    except SortednetError as error:
        error.told_here = not isinstance(error, ReportedByPeer) and processes.may_tell()
        raise
    finally:
        # To close a GPU's communicator is to wait for its peers, who may have gone.
        if whole or device.type == "cpu":
            dist.destroy_process_group()


@contextmanager
def lost_peers(told: str = "another process of this training has died") -> Iterator[None]:
    """Raise PeerLost for an error of communication, wherever it shows; any other as it is."""
    try:
        yield
    except RuntimeError as error:
        communicates = isinstance(error, dist.DistError) or _GLOO in str(error)
        if not communicates or lack_of_memory(error) is not None:
            raise
        raise PeerLost(told) from error
