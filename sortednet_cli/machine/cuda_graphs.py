"""CUDA graphs: the recorder of a CUDA device, and where there is one."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakSet

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sortednet_cli.errors import RequestError, reason_of
from sortednet_cli.machine.graphs import MEMORY_SHARE, NotRecordable, PassGraphs

_READS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
"""What torch calls operations whose results the host must know to go on."""

_INDEXING = {
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
}
_MASKS = (torch.bool, torch.uint8)
"""Types of indices whose positions the host must count."""

GraphChoice = bool | Literal["auto"]
"""Whether passes are recorded; "auto" records where that can be done."""


def check_graphs(choice: GraphChoice, device: torch.device, setting: str) -> None:
    """RequestError if a setting requires graphs, and the device has none."""
    if choice is True and device.type != "cuda":
        raise RequestError(
            f'{setting}: --device {device} has no CUDA graphs: take a CUDA device, or set "auto"'
        )


def open_graphs(choice: GraphChoice, device: torch.device, setting: str) -> PassGraphs | None:
    """Make what records passes; None if the device has no graphs, or the user wants none.

    Args:
        setting: how a user requires graphs, such as "train.cuda_graphs = true".

    Raises:
        RequestError: graphs are required, and the device has none.
    """
    check_graphs(choice, device, setting)
    if not choice or device.type != "cuda":
        return None
    return PassGraphs(CudaRecorder(device), setting if choice is True else "")


@dataclass(eq=False)
class _CudaRecording:
    graph: torch.cuda.CUDAGraph
    outputs: Sequence[Tensor]
    pool_bytes: int
    own_bytes: int

    def replay(self) -> None:
        self.graph.replay()


class CudaRecorder:
    """Records CUDA graphs on a stream beside the current one, all in one memory pool.

    Replays run one after another, so that a graph may use the memory of every other.
    """

    def __init__(self, device: torch.device) -> None:
        self.limit = int(MEMORY_SHARE * torch.cuda.mem_get_info(device)[1])
        self._device = device
        self._stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool: Any = None
        self._recordings: WeakSet[_CudaRecording] = WeakSet()

    def warm_up(self, work: Callable[[], list[Tensor]]) -> list[Tensor]:
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            outputs = work()
        current.wait_stream(self._stream)
        return outputs

    def record(self, work: Callable[[], list[Tensor]]) -> _CudaRecording:
        if not self._recordings:  # a pool that its last graph has left is not to be used again
            self._pool = torch.cuda.graph_pool_handle()
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
        free, reserved = self._memory()
        graph, drawn = torch.cuda.CUDAGraph(), _host_randomness()
        try:
            # Of threads that fill queues or watch other processes, none may break the recording.
            capture = torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            )
            with warnings.catch_warnings():  # of what was refused at once, nothing was captured
                warnings.filterwarnings("ignore", message="The CUDA Graph is empty")
                with capture, _OnDevice():  # type: ignore[no-untyped-call]
                    outputs = work()
        except Exception as error:
            raise NotRecordable(reason_of(error)) from error
        if _host_randomness() != drawn:
            torch.default_generator.set_state(torch.tensor(drawn[0], dtype=torch.uint8))
            random.setstate(drawn[1])
            raise NotRecordable("it draws random numbers on the host")
        now_free, now_reserved = self._memory()
        pool_bytes = max(0, now_reserved - reserved)
        own_bytes = max(0, free - now_free - pool_bytes)
        recording = _CudaRecording(graph, outputs, pool_bytes, own_bytes)
        self._recordings.add(recording)
        return recording

    def _memory(self) -> tuple[int, int]:
        """Bytes of the device that are free, and those that torch has reserved."""
        free, _ = torch.cuda.mem_get_info(self._device)
        return free, torch.cuda.memory_reserved(self._device)


class _OnDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses what a capture does not survive: a part of the work that the host must do.

    It is asked before CUDA is, which would leave the stream unusable.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        places = [tensor.device.type for tensor in tensors if tensor.dim()]
        if kwargs.get("device") is not None:
            places.append(torch.device(kwargs["device"]).type)
        if "cuda" in places and "cpu" in places:
            raise NotRecordable(f"{func} copies between host and device")
        reads = func is torch.ops.aten.is_nonzero.default or not _READS.isdisjoint(func.tags)
        if func in _INDEXING:
            reads = any(index.dtype in _MASKS for index in args[1] if index is not None)
        if reads and any(tensor.is_cuda for tensor in tensors):
            raise NotRecordable(f"{func} waits for the device")
        return func(*args, **kwargs)


def _host_randomness() -> tuple[list[int], tuple[Any, ...]]:
    return torch.default_generator.get_state().tolist(), random.getstate()
