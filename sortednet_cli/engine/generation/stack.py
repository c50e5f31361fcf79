"""The layers of a causal model over one cache. Knows no token choice and no strategy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sortednet_cli.engine.generation.layers import FusedLayer, causal_mask, check_layer
from sortednet_cli.errors import RequestError

_MASK_ROWS = 32

_ALIGNED = 8
"""Rows of a mask begin at multiples of so many elements, as kernels of GPUs want them."""


class Stack:
    """A sequence of positions, each run through some first layers of the model.

    A layer has seen at most the positions that the layer before it has: `seen` never rises
    with depth. So a position needs one state alone, that after the last layer it went
    through, and whatever layers left out is caught up, all positions at once, when a deeper
    layer is asked for. Leaving early and drafting are both this.

    Args:
        module: a stock causal model (LLaMA, Qwen2 or Mistral), in eval mode.
        capacity: positions that the cache has room for.

    Attributes:
        depth: number of layers.
        length: number of positions.
        seen: how many positions each layer has seen.

    Raises:
        RequestError: the module is no such model, or `capacity` is beyond its positions.
    """

    def __init__(self, module: nn.Module, capacity: int) -> None:
        model: Any = module
        base = getattr(model, "model", None)
        if base is None or not hasattr(base, "rotary_emb"):
            raise RequestError(f"{type(module).__name__} is no causal model that can be decoded")
        config = model.config
        for layer in base.layers:
            check_layer(layer)
        self.context = int(config.max_position_embeddings)
        if not 0 < capacity <= self.context:
            raise RequestError(f"the model has {self.context} positions, not {capacity}")
        self.layers = [FusedLayer(layer, config, i) for i, layer in enumerate(base.layers)]
        self.depth = len(self.layers)
        self.capacity = capacity
        self._embedding = base.embed_tokens.weight.detach()
        self._norm = base.norm.weight.detach()
        self._epsilon = float(base.norm.variance_epsilon)
        self._head = model.lm_head.weight.detach()
        self._head_bias = None if model.lm_head.bias is None else model.lm_head.bias.detach()
        like = self._embedding
        first = self.layers[0]
        self._groups = first.heads // first.key_heads
        shape = (self.depth, first.key_heads, capacity, first.head_dim)
        # Zeros, not empty: attention multiplies masked places by weights of zero.
        self._keys = list(like.new_zeros(shape).unbind(0))
        self._values = list(like.new_zeros(shape).unbind(0))
        self._states = like.new_zeros(capacity, like.shape[1])
        self._turn = _turn(config, capacity)
        self._late = _rotations(base.rotary_emb, 0, capacity, like)
        self._early = self._late
        if self._turn < capacity:
            parts = (0, self._turn), (self._turn, capacity)
            self._early = torch.cat([_rotations(base.rotary_emb, *part, like) for part in parts])
        self._rotations = self._early
        rows = _MASK_ROWS + _ALIGNED - 1
        columns = -(-(capacity + rows) // _ALIGNED) * _ALIGNED
        self._masks = {
            window: causal_mask(rows, columns, capacity, self._groups, window, like)
            for window in {layer.window for layer in self.layers}
        }
        self.length = 0
        self.seen = [0] * self.depth

    def push(self, tokens: Sequence[int]) -> None:
        """Append positions; no layer has seen them yet."""
        last = self.length + len(tokens)
        if not self.length:  # a prompt is rotated as a whole
            self._rotations = self._late if last > self._turn else self._early
        if len(tokens) == 1:
            self._states[self.length] = self._embedding[tokens[0]]
        else:
            ids = torch.tensor(tokens, device=self._embedding.device)
            self._states[self.length : last] = self._embedding[ids]
        self.length = last

    def advance(self, depth: int) -> None:
        """Bring every position through the first `depth` layers."""
        first, last = self.length, self.length
        states = self._states[first:last]
        for index in range(depth):
            if self.seen[index] == last:
                continue
            if self.seen[index] != first:
                # This layer has more to catch up on than the one before it.
                self._states[first:last] = states
                first = self.seen[index]
                states = self._states[first:last]
            layer = self.layers[index]
            states = layer(
                states,
                self._rotations[first:last],
                self._keys[index],
                self._values[index],
                first,
                self._mask(layer, first, last),
            )
            self.seen[index] = last
        self._states[first:last] = states

    def logits(self, count: int) -> Tensor:
        """Logits [count, V] of the last positions, from the depth that they are at."""
        states = self._states[self.length - count : self.length]
        normed = F.rms_norm(states, tuple(self._norm.shape), self._norm, self._epsilon)
        return F.linear(normed, self._head, self._head_bias).float()

    def wait(self) -> None:
        """Wait until the device has done all that it was asked to: a GPU works in its own time."""
        if self._states.device.type != "cpu":
            torch.accelerator.synchronize(self._states.device)

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on."""
        self.length = min(self.length, length)
        self.seen = [min(seen, length) for seen in self.seen]

    def _mask(self, layer: FusedLayer, first: int, last: int) -> Tensor | None:
        """The layer's mask, cut out of one that is made once where its rows suffice."""
        rows, window = last - first, layer.window
        if rows == 1 or (first == 0 and not 0 < window < last):
            return None
        if rows > _MASK_ROWS:
            return causal_mask(rows, last, first, self._groups, window, self._states)
        # Every row is the one above it moved right by a column: enough rows down, the same mask
        # begins at an aligned column.
        right = self.capacity - first
        down = -right % _ALIGNED
        right += down
        return self._masks[window][
            down * self._groups : (down + rows) * self._groups, right : right + last
        ]


def _turn(config: Any, capacity: int) -> int:
    """The position from which LongRoPE takes its other frequencies."""
    rope = config.rope_parameters
    if rope["rope_type"] != "longrope":
        return capacity
    return min(capacity, int(rope["original_max_position_embeddings"]))


def _rotations(rotary: Any, first: int, last: int, like: Tensor) -> Tensor:
    """The stock module's own cosines and sines, as complex numbers [T, 1, D / 2]."""
    places = torch.arange(first, last, device=like.device)[None]
    cosines, sines = rotary(like.new_zeros(1, dtype=torch.float32), places)
    half = cosines.shape[-1] // 2
    return torch.complex(cosines[0, :, :half], sines[0, :, :half])[:, None]
