"""A GPU that is pretended: counts where a host would wait for one, on a machine that has none.

    with PretendedGpu() as gpu:
        network.to(device)  # the CPU, by name
        ...
    print(gpu.waits)

A tensor is the GPU's if it was made for a device, or copied to one, that the code names, and so is
all that is computed from it; any other is the host's. Values are the CPU's own.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten

_INDEXES = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
_LOOKS = {Tensor.tolist, Tensor.numpy, Tensor.cpu}
"""What reads a tensor of the CPU without an operator."""
_IS_CPU = Tensor.is_cpu.__get__  # type: ignore[attr-defined]
_DEVICE = Tensor.device.__get__
_HOST = torch.device("cpu", 0)
"""What the host's tensors call their device, so that one can be told from the GPU's `cpu`."""


def reads(func: Any, args: Any) -> bool:
    """Whether an operator needs to know values of its tensors, for a number or for a shape."""
    if func is aten._local_scalar_dense.default:
        return True
    if {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags):
        masks = [t for t in tree_leaves(args[1]) if isinstance(t, Tensor)] if _picks(func) else []
        return not _picks(func) or any(mask.dtype in (torch.bool, torch.uint8) for mask in masks)
    return False


def _picks(func: Any) -> bool:
    """Whether an operator takes indices: those that are masks have a length to find out."""
    return func in _INDEXES


class PretendedGpu:
    """Counts the waits of what runs while it is entered.

    Attributes:
        waits: how often the host would have waited, by the line of this project that asked:
            reads of values, and copies to the GPU that are not left to its queue.
        copies: how often it would have copied to the GPU without waiting, by line.
        is_paused: whether nothing is counted.
    """

    def __init__(self) -> None:
        self.waits = Counter[str]()
        self.copies = Counter[str]()
        self._own: dict[int, StorageWeakRef] = {}
        self._stack = ExitStack()
        self.is_paused = False

    def __enter__(self) -> PretendedGpu:
        # The mode is a thread's: backward passes are to run in this one.
        self._stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        self._stack.enter_context(_Operators(self))
        self._stack.enter_context(_Calls(self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def place(self, tensors: Iterable[Tensor]) -> None:
        """Make tensors the GPU's."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._own.setdefault(storage._cdata, StorageWeakRef(storage))  # type: ignore[no-untyped-call]

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor is the GPU's."""
        return tensor.untyped_storage()._cdata in self._own

    def note_wait(self, why: str) -> None:
        """Count a wait."""
        self.waits[f"{why}, {_line()}"] += 1

    def note_copy(self, is_queued: bool) -> None:
        """Count a copy to the GPU."""
        if is_queued:
            self.copies[_line()] += 1
        else:
            self.note_wait("copy to the device")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing and place nothing: all is the host's business."""
        before, self.is_paused = self.is_paused, True
        try:
            yield
        finally:
            self.is_paused = before


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the GPU's tensors through operators, and finds those that read their values."""

    def __init__(self, gpu: PretendedGpu) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, gpu = kwargs or {}, self.gpu
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        found = func(*args, **kwargs)
        if gpu.is_paused or not any(gpu.holds(tensor) for tensor in given):
            return found
        if func is aten.copy_.default:
            self._copy(args[0], args[1], bool(kwargs.get("non_blocking", args[2:] == (True,))))
            return found
        if reads(func, args):
            gpu.note_wait("read")
        elif stray := [t for t in given if t.dim() and not gpu.holds(t)]:
            # A GPU takes indices from the host, and nothing else that is more than a number.
            assert func in _INDEXES, f"{func}: tensors of two devices, {_line()}"
            for _ in stray:
                gpu.note_copy(is_queued=False)
        gpu.place(leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor))
        return found

    def _copy(self, to: Tensor, of: Tensor, is_queued: bool) -> None:
        if not self.gpu.holds(to):
            self.gpu.note_wait("read")
        elif not self.gpu.holds(of):
            self.gpu.note_copy(is_queued)


class _Calls(TorchFunctionMode):
    """Finds calls that name a device, and those that read a tensor without an operator."""

    def __init__(self, gpu: PretendedGpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, gpu = kwargs or {}, self.gpu
        if gpu.is_paused:
            return func(*args, **kwargs)
        if func == _IS_CPU:
            return not gpu.holds(args[0])
        if func == _DEVICE:
            device = func(*args)
            return _HOST if device.type == "cpu" and not gpu.holds(args[0]) else device
        if func in _LOOKS and gpu.holds(args[0]):
            gpu.note_wait("read")
            with gpu.paused():
                found = func(*args, **kwargs)
                return found.clone() if func is Tensor.cpu else found
        if func is Tensor.to:
            return self._to(args, kwargs)
        found = func(*args, **kwargs)
        if _is_named(kwargs.get("device")) and isinstance(found, Tensor):
            if func in (torch.tensor, torch.as_tensor):
                gpu.note_copy(is_queued=False)
            gpu.place([found])
        return found

    def _to(self, args: Any, kwargs: Any) -> Any:
        """Copy what is the host's, if a device is named; else change its type where it is."""
        source, *given = args
        found = source.to(*given, **kwargs)
        named = any(map(_is_named, (*given, kwargs.get("device"))))
        beside = any(isinstance(other, Tensor) and self.gpu.holds(other) for other in given)
        if not (named or beside) or found.is_meta or self.gpu.holds(source):
            return found
        self.gpu.note_copy(kwargs.get("non_blocking", False))
        with self.gpu.paused():
            copy = found.clone() if found is source else found
        self.gpu.place([copy])
        return copy


def _is_named(device: object) -> bool:
    """Whether something names the GPU."""
    return isinstance(device, str | torch.device) and torch.device(device) == torch.device("cpu")


def _line() -> str:
    """The line of the package that is running: `tasks/base.py:81`."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        _, found, path = frame.f_code.co_filename.rpartition("sortednet_cli/")
        if found:
            return f"{path}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
