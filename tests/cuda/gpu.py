"""A GPU for tests: real CUDA tensors in host memory, each operation run by its CPU kernel there.

Under `build.py`'s runtime, torch's own code allocates, copies and chooses as for a GPU, but its
kernels do nothing. `SimulatedGpu` runs the CPU's kernel on the same memory, so that values are
right, and refuses what a GPU refuses: operations over tensors of two devices. Attention kernels run
both ways: torch's own checks and memory layouts, the CPU's values. What is asked while torch
captures a CUDA graph is recorded by address, and done on the same memory at each replay.
"""

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.pretended import reads

aten = torch.ops.aten
GPU = torch.device("cuda")

_ALLOCATES = {
    aten.empty.memory_format,
    aten.empty_strided.default,
    aten.empty_like.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
}
_MAY_MIX = {aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default}
"""A GPU takes indices from the CPU here."""


def on_host(tensor: Tensor) -> Tensor:
    """The memory of a tensor of the simulated GPU, as a tensor of the CPU."""
    storage = tensor.untyped_storage()
    if not storage.nbytes():
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    memory = _memory(storage.data_ptr(), storage.nbytes())
    empty = torch.empty(0, dtype=tensor.dtype)
    return empty.set_(memory, tensor.storage_offset(), tensor.shape, tensor.stride())


@lru_cache(maxsize=1 << 14)
def _memory(address: int, num_bytes: int) -> torch.UntypedStorage:
    """Memory as torch knows it. It is the caller's to hold: to keep this costs nothing."""
    memory = (ctypes.c_uint8 * num_bytes).from_address(address)
    return torch.frombuffer(memory, dtype=torch.uint8).untyped_storage()


def on_gpu(tensor: Tensor) -> Tensor:
    """A copy in the memory of the simulated GPU, laid out alike."""
    assert tensor.dtype is not torch.float64, "a Mac's GPU has no float64"
    made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cuda")
    on_host(made).copy_(tensor)
    return made


class SimulatedGpu(TorchDispatchMode):
    """Runs operations on tensors of the simulated GPU while it is entered.

    Attributes:
        waits: how often the host read what the GPU had computed, or waited for a copy to it.
        replays: how often a captured graph was launched.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits = self.replays = 0
        self._graphs: dict[int, list[Callable[[], None]]] = defaultdict(list)
        self._runtime = ctypes.CDLL(None)  # what was loaded before all else
        self._runtime.captured_now.restype = ctypes.c_long
        self._launched = ctypes.CFUNCTYPE(None, ctypes.c_long)(self._replay)
        self._runtime.on_launch(self._launched)

    def _replay(self, graph: int) -> None:
        self.replays += 1
        with torch.no_grad():
            for work in self._graphs[graph]:
                work()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and func._can_decompose():
            with self:
                return func.decompose(*args, **kwargs)
        tensors = _tensors((args, kwargs))
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
        if func in _ATTEND:
            return _ATTEND[func](func, *args, **kwargs)
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
            to, of = (on_host(t) if t.is_cuda else t for t in (into, source))
            to.copy_(of)
            return into
        source, options = args[0], dict(kwargs)
        device = torch.device(options.pop("device", None) or source.device)
        is_queued = options.pop("non_blocking", False)
        made = func(on_host(source) if source.is_cuda else source, **options)
        if device.type == "cuda":
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

    args, kwargs = _mapped(lend, (args, dict(kwargs)))
    if "device" in kwargs:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    kwargs.pop("pin_memory", None)
    found = func(*args, **kwargs)

    def give(tensor: Tensor) -> Tensor:
        if id(tensor) in own:
            return own[id(tensor)]
        return on_gpu(tensor) if stays else tensor

    return _mapped(give, found)


def _tensors(nest: Any) -> list[Tensor]:
    """The tensors in the arguments or results of an operation, in order."""
    found: list[Tensor] = []
    _mapped(found.append, nest)
    return found


def _mapped(change: Callable[[Tensor], Any], nest: Any) -> Any:
    """The same nest with other values for its tensors; torch's own walk takes far longer."""
    if isinstance(nest, Tensor):
        return change(nest)
    if isinstance(nest, tuple):
        return tuple([_mapped(change, part) for part in nest])
    if isinstance(nest, list):
        return [_mapped(change, part) for part in nest]
    if isinstance(nest, dict):
        return {name: _mapped(change, part) for name, part in nest.items()}
    return nest


def _recorded(
    func: Any, args: Any, kwargs: Any, tensors: list[Tensor]
) -> tuple[Any, Callable[[], None]]:
    """What an operation returns, changing nothing, and what does it later on the same memory."""
    moves = [t for t in tensors if t.is_cpu and t.dim()] or kwargs.get("device", GPU).type == "cpu"
    if moves or func in _ATTEND or torch.Tag.data_dependent_output in func.tags:
        raise RuntimeError(f"{func}: operation not permitted when stream is capturing")
    before = [(own := on_host(t), own.clone()) for t in tensors if t.is_cuda and _is_writable(t)]
    with torch.random.fork_rng(devices=[]):
        found = _on_memory(func, args, kwargs, True)
    for own, values in before:
        own.copy_(values)
    # By address: a graph keeps no memory of its pool from being used again.
    addressed = [on_host(t) if t.is_cuda else t.clone() for t in tensors]
    made = [on_host(tensor) for tensor in _tensors(found)]
    options = {k: v for k, v in kwargs.items() if k not in ("pin_memory", "non_blocking")}
    if "device" in options:
        options["device"] = torch.device("cpu")
    form = _mapped(lambda _: torch.empty(0), (args, options))

    def again() -> None:
        given = iter(addressed)
        arguments, named = _mapped(lambda _: next(given), form)
        for into, value in zip(made, _tensors(func(*arguments, **named)), strict=True):
            if into.data_ptr() != value.data_ptr():
                into.copy_(value)

    return found, again


def _is_writable(tensor: Tensor) -> bool:
    """Whether an operation could write to a tensor: elements have a place each."""
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return all(stride or size == 1 for size, stride in pairs)


def _attend(
    func: Any,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    *others: Any,
    **options: Any,
) -> Any:
    """Run torch's kernel for its checks and its layout, and fill in the CPU's values."""
    outputs, _, seed, offset = func(queries, keys, values, mask, *others, **options)
    named = _named(func, 4, others, options)
    groups = queries.shape[1] // keys.shape[1]
    found, sums = aten._scaled_dot_product_flash_attention_for_cpu.default(
        on_host(queries),
        *(on_host(t).repeat_interleave(groups, 1) for t in (keys, values)),
        is_causal=named["is_causal"],
        attn_mask=None if mask is None else on_host(mask),
        scale=named["scale"],
    )
    on_host(outputs).copy_(found)
    return outputs, on_gpu(sums), seed, offset


def _attend_back(func: Any, *arguments: Any, **options: Any) -> Any:
    """The gradients that the CPU's attention gives."""
    tensors, options = arguments[:7], _named(func, 0, arguments, options)
    *given, mask, outputs, sums = (None if t is None else on_host(t) for t in tensors)
    found = aten._scaled_dot_product_flash_attention_for_cpu_backward.default(
        *given,
        outputs,
        sums,
        0.0,
        options["is_causal"],
        attn_mask=mask,
        scale=options["scale"],
    )
    return (*(on_gpu(gradient) for gradient in found), None)


def _named(func: Any, first: int, values: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of an operator from number `first` on, by name."""
    schema = func._schema.arguments
    defaults = {argument.name: argument.default_value for argument in schema}
    names = [argument.name for argument in schema[first:]]
    return {**defaults, **dict(zip(names, values, strict=False)), **options}


_ATTEND = {
    aten._scaled_dot_product_efficient_attention.default: _attend,
    aten._scaled_dot_product_efficient_attention_backward.default: _attend_back,
}
