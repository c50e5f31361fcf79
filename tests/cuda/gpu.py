"""A GPU for tests: real CUDA tensors in host memory, each operation run by its CPU kernel there.

Under `build.py`'s runtime, torch's own code allocates, copies and chooses as for a GPU, but its
kernels do nothing. `SimulatedGpu` runs the CPU's kernel on the same memory, so that values are
right, and refuses what a GPU refuses: operations over tensors of two devices. Attention kernels run
both ways: torch's own checks and memory layouts, the CPU's values. What is asked while torch
captures a CUDA graph is recorded by address, and done on the same memory at each replay.
"""

from __future__ import annotations

import ctypes
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.pretended import reads
from tests.cuda.attention import ATTEND, ATTENDED
from tests.cuda.memory import mapped, on_gpu, on_host, tensors_of

aten = torch.ops.aten
GPU = torch.device("cuda")

_ALLOCATES = {
    aten.empty.memory_format,
    aten.empty_strided.default,
    aten.empty_like.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
    *(getattr(aten.set_, name) for name in aten.set_.overloads()),
}
"""What makes tensors, and launches nothing."""
_MAY_MIX = {aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default}
"""A GPU takes indices from the CPU here."""


class SimulatedGpu(TorchDispatchMode):
    """Runs operations on tensors of the simulated GPU while it is entered.

    Attributes:
        waits: how often the host read what the GPU had computed, or waited for a copy to it.
        replays: how often a captured graph was launched.
        launches: operations that ran on the GPU, by name, and graphs: each as one launch. Those
            that are captured, and copies between host and GPU, are none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits = self.replays = 0
        self.launches = Counter[str]()
        self._graphs: dict[int, list[Callable[[], None]]] = defaultdict(list)
        self._runtime = ctypes.CDLL(None)  # what was loaded before all else
        self._runtime.captured_now.restype = ctypes.c_long
        self._launched = ctypes.CFUNCTYPE(None, ctypes.c_long)(self._replay)
        self._runtime.on_launch(self._launched)

    def _replay(self, graph: int) -> None:
        self.replays += 1
        self.launches["graph"] += 1
        with torch.no_grad():
            for work in self._graphs[graph]:
                work()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and func._can_decompose():
            with self:
                return func.decompose(*args, **kwargs)
        tensors = tensors_of((args, kwargs))
        asked = kwargs.get("device")
        makes = asked is not None and torch.device(asked).type == "cuda"
        if not makes and not any(t.is_cuda for t in tensors):
            return func(*args, **kwargs)
        if func.is_view or func in _ALLOCATES:
            return func(*args, **kwargs)
        if graph := self._runtime.captured_now():
            found, work = _recorded(func, args, kwargs, tensors)
            self._graphs[graph].append(work)
            return found
        return self._run(func, args, kwargs, tensors)

    def _run(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> Any:
        asked = kwargs.get("device")
        makes = asked is not None and torch.device(asked).type == "cuda"
        if func is aten._to_copy.default or func is aten.copy_.default:
            return self._copy(func, args, kwargs)
        self.launches[str(func)] += 1
        if func in ATTEND:
            return ATTEND[func](func, *args, **kwargs)
        if asked is None:
            _check_devices(func, args, tensors)
        self.waits += reads(func, args)
        return _on_memory(func, args, kwargs, makes or asked is None)

    def _copy(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Copy within a device or between two, and change types."""
        if func is aten.copy_.default:
            into, source = args[:2]
            is_queued = bool(kwargs.get("non_blocking", args[2:] == (True,)))
            if source.is_cuda != into.is_cuda:
                self.waits += source.is_cuda or not (is_queued and source.is_pinned())
            else:
                self.launches[str(func)] += 1
            to, of = (on_host(t) if t.is_cuda else t for t in (into, source))
            to.copy_(of)
            return into
        source, options = args[0], dict(kwargs)
        device = torch.device(options.pop("device", None) or source.device)
        is_queued = options.pop("non_blocking", False)
        made = func(on_host(source) if source.is_cuda else source, **options)
        if device.type == "cuda":
            self.launches[str(func)] += source.is_cuda
            self.waits += source.is_cpu and not (is_queued and source.is_pinned())
            return on_gpu(made)
        self.waits += source.is_cuda
        return made


@contextmanager
def simulated_gpu() -> Iterator[SimulatedGpu]:
    """Run what is inside with a simulated GPU, and without what is no part of the simulation."""
    with (
        # The mode is a thread's: backward passes are to run in this one.
        torch.autograd.set_multithreading_enabled(False),
        sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]),
        torch.backends.cudnn.flags(enabled=False),
        SimulatedGpu() as entered,
    ):
        yield entered


def _check_devices(func: Any, args: Any, tensors: list[Tensor]) -> None:
    """Numbers (tensors without dimensions) may come from the CPU, and some indices."""
    stray = [t for t in tensors if not t.is_cuda and t.dim()]
    if func in _MAY_MIX:
        stray = [t for t in stray if not any(t is index for index in args[1])]
    if stray:
        places = ", ".join(f"{tuple(t.shape)} on {t.device}" for t in tensors)
        raise RuntimeError(f"{func}: expected all tensors to be on the same device: {places}")


def _on_memory(func: Any, args: Any, kwargs: Any, stays: bool) -> Any:
    """Run the CPU's kernel on the memory of the arguments."""
    own: dict[int, Tensor] = {}
    kept = []  # so that no identity is taken twice

    def lend(tensor: Tensor) -> Tensor:
        if tensor.is_cpu:
            return tensor
        if tensor.is_meta:  # a shape for `zeros_like` and its kind
            return torch.empty_like(tensor, device="cpu")
        lent = on_host(tensor)
        own[id(lent)] = tensor
        kept.append(lent)
        return lent

    args, kwargs = mapped(lend, (args, dict(kwargs)))
    if "device" in kwargs:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    kwargs.pop("pin_memory", None)
    found = func(*args, **kwargs)

    def give(tensor: Tensor) -> Tensor:
        if id(tensor) in own:
            return own[id(tensor)]
        return on_gpu(tensor) if stays else tensor

    return mapped(give, found)


def _recorded(
    func: Any, args: Any, kwargs: Any, tensors: list[Tensor]
) -> tuple[Any, Callable[[], None]]:
    """What an operation returns, changing nothing, and what does it later on the same memory."""
    moves = [t for t in tensors if t.is_cpu and t.dim()] or kwargs.get("device", GPU).type == "cpu"
    if moves or torch.Tag.data_dependent_output in func.tags:
        raise RuntimeError(f"{func}: operation not permitted when stream is capturing")
    before = [(own := on_host(t), own.clone()) for t in tensors if t.is_cuda and _is_writable(t)]
    if func in ATTEND:
        found, does = ATTEND[func](func, *args, **kwargs), partial(ATTENDED[func], func)
    else:
        with torch.random.fork_rng(devices=[]):
            found, does = _on_memory(func, args, kwargs, True), func
    for own, values in before:
        own.copy_(values)
    # By address: a graph keeps no memory of its pool from being used again.
    addressed = [on_host(t) if t.is_cuda else t.clone() for t in tensors]
    made = [on_host(tensor) for tensor in tensors_of(found)]
    options = {k: v for k, v in kwargs.items() if k not in ("pin_memory", "non_blocking")}
    if "device" in options:
        options["device"] = torch.device("cpu")
    form = mapped(lambda _: torch.empty(0), (args, options))

    def again() -> None:
        given = iter(addressed)
        arguments, named = mapped(lambda _: next(given), form)
        # Attention also returns seeds, which nothing reads without dropout.
        for into, value in zip(
            made, tensors_of(does(*arguments, **named)), strict=func not in ATTEND
        ):
            if into.data_ptr() != value.data_ptr():
                into.copy_(value)

    return found, again


def _is_writable(tensor: Tensor) -> bool:
    """Whether an operation could write to a tensor: elements have a place each."""
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return all(stride or size == 1 for size, stride in pairs)
