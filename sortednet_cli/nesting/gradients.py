"""The root's gradient, and how the backward passes of sub-models add to it.

Knows tensors and their slices; neither modules and plans, nor optimizers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from sortednet_cli.nesting.slices import TensorSlice

_ALIGNMENT = 64
"""Each gradient starts at a multiple of this many elements, so that vector loads are aligned."""


@dataclass(frozen=True, eq=False)
class ParameterView:
    """A view of a parameter of the root, from which a sub-model's parameter is made.

    Attributes:
        source: the name of the root's parameter.
        root: the root's parameter.
        parameter: the view, a leaf that shares the storage of `root`.
        piece: the slice of the root's parameter that the sub-model has.
        number: which of the slice's views it is.
    """

    source: str
    root: nn.Parameter
    parameter: nn.Parameter
    piece: TensorSlice
    number: int = 0

    def of(self, tensor: Tensor) -> Tensor:
        """View the same entries of a tensor of the root's shape."""
        return self.piece.views(tensor)[self.number]

    @cached_property
    def leading(self) -> tuple[int, ...]:
        """The leading slice of the root's parameter that it is; empty if it is none."""
        return (0,) * self.root.dim() if self.piece.fused else self.piece.shape

    @cached_property
    def offset(self) -> int:
        """Bytes between the first entry of the root's parameter and its own."""
        return self.of(self.root).data_ptr() - self.root.data_ptr()


class RootGradients:
    """One gradient for each parameter of the root, zero until something is added to it.

    A plain training loop lets `backward()` hand over fresh gradients. Zeroing a buffer and adding
    to it would read and write every weight three times more. So the first gradient of an update
    is kept as it is where it belongs to a whole parameter, and is copied where it belongs to a
    slice. Only further ones are added.

    Args:
        parameters: the root's parameters by name.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self.buffers: list[Tensor] = []
        """One flat buffer for each dtype; a gradient that is not kept lies there."""
        self.slots: dict[str, Tensor] = {}
        """The place of each gradient in `buffers`, with the shape and strides of its parameter."""
        self._current: dict[str, Tensor] = {}
        # The leading slice of each slot outside of which it holds zeros: at first nothing is known.
        self._written = {name: tuple(p.shape) for name, p in parameters.items()}
        for dtype in dict.fromkeys(parameter.dtype for parameter in parameters.values()):
            self._allocate({n: p for n, p in parameters.items() if p.dtype == dtype}, dtype)

    def _allocate(self, parameters: Mapping[str, nn.Parameter], dtype: torch.dtype) -> None:
        offsets, size = {}, 0
        for name, parameter in parameters.items():
            offsets[name] = size
            size += -(-parameter.numel() // _ALIGNMENT) * _ALIGNMENT
        device = next(iter(parameters.values())).device
        buffer = torch.empty(size, dtype=dtype, device=device)
        self.buffers.append(buffer)
        for name, parameter in parameters.items():
            # Parameters are dense in every memory format, so their strides fit their size.
            slot = buffer[offsets[name] :].as_strided(parameter.shape, parameter.stride())
            self.slots[name] = slot

    def zero(self) -> None:
        """Forget every gradient. Nothing is written: a slot is zeroed when it is needed."""
        self._current.clear()

    def of(self, name: str) -> Tensor:
        """Return the gradient of one of the root's parameters."""
        if name not in self._current:
            self._start(name, (0,) * self.slots[name].dim())
        return self._current[name]

    @torch.no_grad()
    def take(self, views: Iterable[ParameterView]) -> None:
        """Add what backward passes left in `.grad` of `views`, and clear it there."""
        copied: tuple[list[Tensor], list[Tensor]] = ([], [])
        added: tuple[list[Tensor], list[Tensor]] = ([], [])
        for view in views:
            gradient, view.parameter.grad = view.parameter.grad, None
            if gradient is None:
                continue
            if view.source in self._current:
                targets, sources = added
                self._extend(view)
            elif self._fills(view.source, gradient):
                self._current[view.source] = gradient
                continue
            else:
                targets, sources = copied
                self._start(view.source, view.leading)
                self._extend(view)
            targets.append(view.of(self._current[view.source]))
            sources.append(gradient)
        if copied[0]:
            torch._foreach_copy_(*copied)
        if added[0]:
            torch._foreach_add_(*added)

    def _fills(self, name: str, gradient: Tensor) -> bool:
        """Whether a gradient can stand for its slot: same shape, and elements in the same order."""
        slot = self.slots[name]
        return gradient.shape == slot.shape and gradient.stride() == slot.stride()

    def _start(self, name: str, kept: tuple[int, ...]) -> None:
        """Let a slot be the gradient: zeros, apart from the leading slice `kept`."""
        slot, written = self.slots[name], self._written[name]
        if any(old > new for old, new in zip(written, kept, strict=True)):
            slot[tuple(slice(size) for size in written)].zero_()
        self._written[name] = tuple(kept)
        self._current[name] = slot

    def _extend(self, view: ParameterView) -> None:
        """Note that a gradient is written beside what was written before."""
        name = view.source
        if self._current[name] is self.slots[name]:
            added = view.root.shape if view.piece.fused else view.leading
            pairs = zip(self._written[name], added, strict=True)
            self._written[name] = tuple(max(pair) for pair in pairs)
