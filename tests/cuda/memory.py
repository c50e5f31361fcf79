"""Memory of the simulated GPU, and tensors of the CPU over it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


def on_host(tensor: Tensor) -> Tensor:
    """The memory of a tensor of the simulated GPU, as one of the CPU; others as they are."""
    if tensor.is_cpu:
        return tensor
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


def tensors_of(nest: Any) -> list[Tensor]:
    """The tensors in the arguments or results of an operation, in order."""
    found: list[Tensor] = []
    mapped(found.append, nest)
    return found


def mapped(change: Callable[[Tensor], Any], nest: Any) -> Any:
    """The same nest with other values for its tensors; torch's own walk takes far longer."""
    if isinstance(nest, Tensor):
        return change(nest)
    if isinstance(nest, tuple):
        return tuple([mapped(change, part) for part in nest])
    if isinstance(nest, list):
        return [mapped(change, part) for part in nest]
    if isinstance(nest, dict):
        return {name: mapped(change, part) for name, part in nest.items()}
    return nest
