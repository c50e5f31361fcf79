"""The processes of one job: they agree, sum and gather.

A process started by itself is a job of one and does not communicate. With `torchrun`, tensors on a
GPU are sent by the vendor's library (NCCL, XCCL), everything else by gloo. Only bytes and numbers
are exchanged, never pickled objects.
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

TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others: scoring and checkpoints can take long."""

_GLOO = "/gloo/"
"""Occurs in every error message of gloo, which has no exception class of its own."""

_UNREACHABLE = "the processes of this training cannot reach each other"

GRACE_SECONDS = 2.0
"""How long the first process may take to report an error before another process reports it."""


class ReportedByPeer(SortednetError):
    """Another process failed and reported why; this one only exits, with the same code."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class PeerLost(WorkError):
    """Another process of the job has died."""


@dataclass(frozen=True)
class Processes:
    """The processes of a job, as seen by one of them.

    Attributes:
        rank: number of this process.
        count: number of processes.
        store: a key-value store that all processes share; None for a single process.
        launcher: id of the process that started them; None for a single process.
    """

    rank: int = 0
    count: int = 1
    store: Any = None
    launcher: int | None = None

    @property
    def leads(self) -> bool:
        """Whether this is the first process, which writes files and reports progress."""
        return self.rank == 0

    @property
    def abandoned(self) -> bool:
        """Whether the launcher has died, so that nothing controls the job any more.

        Always False on Windows, where a process keeps the id of its dead parent.
        """
        return self.launcher is not None and os.getppid() != self.launcher

    def sum(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes.

        Raises:
            PeerLost: a process has died.
        """
        if self.count > 1:
            with lost_peers():
                dist.all_reduce(tensor)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether it is true in any process."""
        if self.count == 1:
            return flags
        counts = torch.tensor(flags, dtype=torch.int32)
        self.sum(counts)
        return tuple(bool(count) for count in counts.tolist())

    def assigned(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return this process's items of work that is divided among all processes."""
        return items[self.rank :: self.count]

    def broadcast(self, tensors: list[Tensor]) -> None:
        """Overwrite tensors in every process with the values of the first."""
        if self.count > 1:
            with lost_peers():
                for tensor in tensors:
                    dist.broadcast(tensor, src=0)

    def gather(self, data: bytes) -> list[bytes]:
        """Return the bytes of all processes, ordered by rank, in every process."""
        if self.count == 1:
            return [data]
        with lost_peers():
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
            dist.all_gather(sizes, torch.tensor([len(data)]))
            longest = max(int(size) for size in sizes)
            padded = torch.zeros(longest, dtype=torch.uint8)
            if data:
                padded[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            received = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.count)]
            dist.all_gather(received, padded)
        return [
            item[: int(size)].numpy().tobytes() for item, size in zip(received, sizes, strict=True)
        ]

    def lead(self, key: str, work: Callable[[], str]) -> str:
        """Let the first process do some work, and return its result in every process.

        Args:
            key: name of the work, unique within a job.

        Raises:
            ReportedByPeer: the work failed; the first process raises the error itself.
        """
        if self.store is None:
            return work()
        if not self.leads:
            with lost_peers():
                outcome = json.loads(self.store.get(key))
            if "error" in outcome:
                raise ReportedByPeer(outcome["error"], outcome["code"])
            return str(outcome["result"])
        try:
            result = work()
        except BaseException as error:
            code = getattr(error, "exit_code", ReportedByPeer.exit_code)
            self.store.set(key, json.dumps({"error": str(error), "code": code}))
            raise
        self.store.set(key, json.dumps({"result": result}))
        return result

    def claim_report(self) -> bool:
        """Whether this process is the one to report an error: true in exactly one process.

        The first process has precedence, because it knows most.
        """
        if self.store is None:
            return self.leads
        # The launcher terminates the others as soon as one dies; the report must come before.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if not self.leads:
            time.sleep(GRACE_SECONDS)
        try:
            return bool(self.store.add("reported", 1) == 1)
        except RuntimeError:  # the process that hosts the store has died
            return self.leads


SINGLE_PROCESS = Processes()
"""A job of one process, started without a launcher."""


@contextmanager
def join_job(device: torch.device) -> Iterator[Processes]:
    """Join the job that `torchrun` started, or yield a job of one.

    Exactly one process reports an error that leaves this context.
    """
    if launch.world_size() == 1:
        yield SINGLE_PROCESS
        return
    launcher = os.getppid()
    with lost_peers(_UNREACHABLE):
        table, rank, count = next(rendezvous("env://", timeout=TIMEOUT))
    # The launcher keeps one store for all attempts, with the addresses of dead processes in it.
    store = PrefixStore(f"attempt-{launch.restarts()}", table)
    backend: dict[str, Any] = {}
    if device.type != "cpu":
        kind = dist.get_default_backend_for_device(device)
        backend = {"backend": f"cpu:gloo,{device.type}:{kind}", "device_id": device}
        # gloo reports a peer's death; NCCL's watchdog would kill this process before it saves.
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
    with lost_peers(_UNREACHABLE):
        dist.init_process_group(
            **{"backend": "gloo", **backend},
            store=store,
            rank=rank,
            world_size=count,
            timeout=TIMEOUT,
        )
    processes, done = Processes(rank, count, store, launcher), False
    try:
        with enough_memory("this process", "take fewer processes, or a device with more memory"):
            yield processes
        done = True
    except SortednetError as error:
        error.report_here = not isinstance(error, ReportedByPeer) and processes.claim_report()
        raise
    finally:
        # Closing a GPU's communicator waits for its peers, which may have died.
        if done or device.type == "cpu":
            dist.destroy_process_group()


@contextmanager
def lost_peers(message: str = "another process of this training has died") -> Iterator[None]:
    """Turn an error of communication into PeerLost; other errors pass through."""
    try:
        yield
    except RuntimeError as error:
        communicates = isinstance(error, dist.DistError) or _GLOO in str(error)
        if not communicates or lack_of_memory(error) is not None:
            raise
        raise PeerLost(message) from error
