"""Multiply-adds of what runs on the meta device, by torch's own counter.

An operation on the meta device takes as long as a small one elsewhere, and sub-models run the same
blocks again and again. So a block runs once for each shape of its input; later its output and its
count are recalled.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache, partial
from itertools import count
from operator import itemgetter
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Result = TypeVar("Result")

Kinds = Mapping[nn.Module, int]
"""A number for each block that can be described; blocks of one description have the same.

The description is the class, settings, parts and shapes of tensors of a block: all that its work on
the meta device depends on.
"""

_MOST_KEPT = 10_000

_numbers = count()

_known: dict[Hashable, tuple[Tensor, int]] = {}
"""By a block's kind and its input: its output, and the floating-point operations that it took."""


def count_macs(kinds: Kinds, run: Callable[[], Result]) -> tuple[Result, int]:
    """Call `run` on the meta device, and count convolutions and matrix products.

    Args:
        kinds: of the blocks that may run; they are left as they were.

    Returns:
        What it returned, and its multiply-adds.
    """
    counter = _Counter()
    for block, kind in kinds.items():
        block.forward = partial(counter.recall, kind, block.forward)
    try:
        with counter.mode, torch.no_grad(), torch.device("meta"):
            result = run()
    finally:
        for block in kinds:
            del block.forward
    return result, counter.flops // 2


class _Counter:
    """Floating-point operations: those that torch counts, and those of blocks that do not run."""

    def __init__(self) -> None:
        from torch.utils.flop_counter import FlopCounterMode  # imports triton, which takes time

        self.mode = FlopCounterMode(display=False)
        self._recalled = 0

    @property
    def flops(self) -> int:
        return self.mode.get_total_flops() + self._recalled

    def recall(self, kind: int, forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
        """Give what a block of that kind gave for such an input, or run this one."""
        if named or len(inputs) != 1 or not isinstance(inputs[0], Tensor):
            return forward(*inputs, **named)
        (x,) = inputs
        key = (kind, x.shape, x.stride(), x.dtype)
        if key not in _known:
            before, output = self.flops, forward(x)
            if isinstance(output, Tensor):
                _remember(key, output, self.flops - before)
            return output
        output, flops = _known[key]
        self._recalled += flops
        return output.data  # whoever gets it may reshape it in place


def _remember(key: Hashable, output: Tensor, flops: int) -> None:
    if len(_known) == _MOST_KEPT:
        _known.clear()
    _known[key] = output.data, flops


def kinds_of(*blocks: nn.Module) -> Kinds:
    """Find the kinds of some blocks and of all their parts.

    A block has none if it, or a part of it, has hooks, or holds what neither JSON nor an import
    can describe, such as a lambda. Such a block runs every time.
    """
    kinds: dict[nn.Module, int] = {}
    for block in blocks:
        _add_kind(block, kinds)
    return kinds


_COMMON = vars(nn.Module()).keys() - {"training"}
"""What every module holds for torch."""

_hooks_of = itemgetter(*(name for name in _COMMON if "_hooks" in name))


def _add_kind(block: nn.Module, kinds: dict[nn.Module, int]) -> int | None:
    """Return the kind of a block, and add it and those of its parts to `kinds`."""
    if block in kinds:
        return kinds[block]
    own = vars(block)
    parts = [
        (name, _add_kind(part, kinds)) for name, part in own["_modules"].items() if part is not None
    ]
    if any(_hooks_of(own)) or any(kind is None for _, kind in parts):
        return None
    try:
        settings = json.dumps(
            {name: own[name] for name in own if name not in _COMMON}, default=_qualified_name
        )
    except TypeError:
        return None
    tensors = [
        (name, tensor.shape, tensor.dtype)
        for name, tensor in (*own["_parameters"].items(), *own["_buffers"].items())
        if tensor is not None
    ]
    kinds[block] = _number_of((type(block), settings, tuple(tensors), tuple(parts)))
    return kinds[block]


def _qualified_name(value: Any) -> str:
    """Name a class or a function that anybody can import; TypeError for anything else."""
    module, name = getattr(value, "__module__", ""), getattr(value, "__qualname__", "")
    if getattr(sys.modules.get(module), name, None) is not value:
        raise TypeError(value)
    return f"{module}.{name}"


@lru_cache(maxsize=_MOST_KEPT)
def _number_of(description: Hashable) -> int:
    """Number descriptions; one that was forgotten gets a new number."""
    return next(_numbers)
