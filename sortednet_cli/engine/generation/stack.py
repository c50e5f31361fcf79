"""The layers of a causal model over one key-value cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sortednet_cli.engine.generation.layers import causal_mask
from sortednet_cli.engine.generation.models import CausalModel, Layer, open_model
from sortednet_cli.errors import RequestError

_MASK_ROWS = 32

_ALIGNMENT = 8
"""Rows of a mask start at multiples of this many elements, as GPU kernels require."""


class Stack:
    """A sequence of positions, each processed by some first layers of the model.

    A layer has processed at most the positions that the layer before it has, so `seen` never
    rises with depth. A position therefore needs only one state: that after the last layer it went
    through. When a deeper layer is needed, it catches up on all missing positions in one pass.
    Early exit and drafting both rely on this.

    Args:
        module: a stock causal model of a declared architecture, in eval mode.
        capacity: number of positions that the cache has room for.

    Attributes:
        depth: number of layers.
        asynchronous: whether a look at a value waits for the device, which runs behind the host.
        length: number of positions.
        seen: number of positions that each layer has processed.

    Raises:
        RequestError: the module is no such model, or `capacity` exceeds its context.
    """

    def __init__(self, module: nn.Module, capacity: int) -> None:
        self._model = open_model(module)
        self.context = self._model.context
        if not 0 < capacity <= self.context:
            raise RequestError(f"the model has {self.context} positions, not {capacity}")
        self.layers = self._model.layers
        self.depth = len(self.layers)
        self.capacity = capacity
        like, first = self._model.embedding, self.layers[0]
        self._groups = first.groups
        shape = (self.depth, first.key_heads, capacity, first.head_dim)
        # Zeros instead of empty: attention multiplies masked positions by zero, and NaN stays NaN.
        self._keys = list(like.new_zeros(shape).unbind(0))
        self._values = list(like.new_zeros(shape).unbind(0))
        self._states = like.new_zeros(capacity, like.shape[1])
        self.asynchronous = not like.is_cpu
        self._tables = {
            kind: _Rotations(self._model, kind, capacity)
            for kind in {layer.rotation for layer in self.layers}
        }
        self._masks = self._shared_masks()
        self.length = 0
        self.seen = [0] * self.depth

    def push(self, tokens: Sequence[int] | Tensor) -> None:
        """Append positions that no layer has processed yet; tokens may be on the device, [n]."""
        last = self.length + len(tokens)
        if not self.length:  # the prompt's length decides LongRoPE's frequencies
            for table in self._tables.values():
                table.choose(last)
        self._states[self.length : last] = self._model.embed(tokens, self.length)
        self.length = last

    def advance(self, depth: int) -> None:
        """Run every position through the first `depth` layers."""
        first, last = self.length, self.length
        states = self._states[first:last]
        for index in range(depth):
            if self.seen[index] == last:
                continue
            if self.seen[index] != first:
                # This layer has more positions to catch up on than the one before it.
                self._states[first:last] = states
                first = self.seen[index]
                states = self._states[first:last]
            layer = self.layers[index]
            states = layer(
                states,
                self._tables[layer.rotation].chosen[first:last],
                self._keys[index],
                self._values[index],
                first,
                self._mask(layer, first, last),
            )
            self.seen[index] = last
        self._states[first:last] = states

    def logits(self, count: int) -> Tensor:
        """Compute logits [count, V] of the last positions, at the depth that they have reached."""
        return self._model.logits(self._states[self.length - count : self.length])

    def wait(self) -> None:
        """Wait until the device has finished, since a GPU runs asynchronously."""
        if self._states.device.type != "cpu":
            torch.accelerator.synchronize(self._states.device)

    def truncate(self, length: int) -> None:
        """Drop all positions from `length` on."""
        self.length = min(self.length, length)
        self.seen = [min(seen, length) for seen in self.seen]

    def _shared_masks(self) -> dict[int, Tensor]:
        """Make one mask for each attention window; `_mask` returns slices of them."""
        rows = _MASK_ROWS + _ALIGNMENT - 1
        columns = -(-(self.capacity + rows) // _ALIGNMENT) * _ALIGNMENT
        return {
            window: causal_mask(rows, columns, self.capacity, self._groups, window, self._states)
            for window in {layer.window for layer in self.layers}
        }

    def _mask(self, layer: Layer, first: int, last: int) -> Tensor | None:
        """Return a layer's mask: a slice of a stored one if that has enough rows."""
        rows, window = last - first, layer.window
        if rows == 1 or (first == 0 and not 0 < window < last):
            return None
        if rows > _MASK_ROWS:
            return causal_mask(rows, last, first, self._groups, window, self._states)
        # Each row of the stored mask is the one above it, shifted right by one column. So the
        # mask for `first` starts at any row, and `down` is chosen to align its first column.
        right = self.capacity - first
        down = -right % _ALIGNMENT
        right += down
        return self._masks[window][
            down * self._groups : (down + rows) * self._groups, right : right + last
        ]


class _Rotations:
    """The rotary embeddings of layers of one kind, for every position of a cache.

    LongRoPE has other frequencies for long prompts. Positions beyond a short one's context are
    rotated by them too, as the stock module does when it gets there.

    Attributes:
        chosen: the table of the prompt at hand, [T, ..].
    """

    def __init__(self, model: CausalModel, kind: str, capacity: int) -> None:
        short = model.num_short(kind)
        self._num_short = capacity if short is None else min(capacity, short)
        self._long = model.rotations(kind, 0, capacity)
        self._short = self._long
        if self._num_short < capacity:
            parts = (0, self._num_short), (self._num_short, capacity)
            self._short = torch.cat([model.rotations(kind, *part) for part in parts])
        self.chosen = self._short

    def choose(self, length: int) -> None:
        """Choose the table for a prompt of `length` tokens."""
        self.chosen = self._long if length > self._num_short else self._short
