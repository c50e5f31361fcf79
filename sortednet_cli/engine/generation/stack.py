"""The layers of a causal model over one key-value cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sortednet_cli.engine.generation.layers import FusedLayer, causal_mask
from sortednet_cli.errors import RequestError, listed
from sortednet_cli.machine.transfer import send

_MODELS = ("LlamaForCausalLM", "Qwen2ForCausalLM", "MistralForCausalLM")
"""Classes whose layers `FusedLayer` computes. Others with the same parts use them differently."""

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
        module: a stock causal model (LLaMA, Qwen2 or Mistral), in eval mode.
        capacity: number of positions that the cache has room for.

    Attributes:
        depth: number of layers.
        asynchronous: whether a look at a value waits for the device, which runs behind the host.
        length: number of positions.
        seen: number of positions that each layer has processed.

    Raises:
        RequestError: the module is not one of these models, or `capacity` exceeds its context.
    """

    def __init__(self, module: nn.Module, capacity: int) -> None:
        model: Any = module
        if (name := type(module).__name__) not in _MODELS:
            raise RequestError(
                f"generation is for {listed(_MODELS)}, not {name}: extract the sub-model, and call"
                " transformers' own generate()"
            )
        base, config = model.model, model.config
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
        # Zeros instead of empty: attention multiplies masked positions by zero, and NaN stays NaN.
        self._keys = list(like.new_zeros(shape).unbind(0))
        self._values = list(like.new_zeros(shape).unbind(0))
        self._states = like.new_zeros(capacity, like.shape[1])
        self.asynchronous = not like.is_cpu
        self._num_short = _num_short(config, capacity)
        self._long_rotations = _rotations(base.rotary_emb, 0, capacity, like)
        self._short_rotations = self._long_rotations
        if self._num_short < capacity:
            parts = (0, self._num_short), (self._num_short, capacity)
            self._short_rotations = torch.cat(
                [_rotations(base.rotary_emb, *part, like) for part in parts]
            )
        self._rotations = self._short_rotations
        self._masks = self._shared_masks()
        self.length = 0
        self.seen = [0] * self.depth

    def push(self, tokens: Sequence[int] | Tensor) -> None:
        """Append positions that no layer has processed yet; tokens may be on the device, [n]."""
        last = self.length + len(tokens)
        if not self.length:  # the prompt's length decides LongRoPE's frequencies
            self._rotations = (
                self._long_rotations if last > self._num_short else self._short_rotations
            )
        if last - self.length == 1 and not isinstance(tokens, Tensor):
            self._states[self.length] = self._embedding[tokens[0]]
        else:
            ids = send(torch.as_tensor(tokens), self._embedding.device)
            self._states[self.length : last] = self._embedding.index_select(0, ids)
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
                self._rotations[first:last],
                self._keys[index],
                self._values[index],
                first,
                self._mask(layer, first, last),
            )
            self.seen[index] = last
        self._states[first:last] = states

    def logits(self, count: int) -> Tensor:
        """Compute logits [count, V] of the last positions, at the depth that they have reached."""
        states = self._states[self.length - count : self.length]
        normed = F.rms_norm(states, tuple(self._norm.shape), self._norm, self._epsilon)
        return F.linear(normed, self._head, self._head_bias).float()

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

    def _mask(self, layer: FusedLayer, first: int, last: int) -> Tensor | None:
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


def _num_short(config: Any, capacity: int) -> int:
    """Return the number of positions with LongRoPE's short-context frequencies, by default all."""
    rope = config.rope_parameters
    if rope["rope_type"] != "longrope":
        return capacity
    return min(capacity, int(rope["original_max_position_embeddings"]))


def _rotations(rotary: Any, first: int, last: int, like: Tensor) -> Tensor:
    """Compute the stock module's cosines and sines, as complex numbers [T, 1, D / 2]."""
    positions = torch.arange(first, last, device=like.device)[None]
    cosines, sines = rotary(like.new_zeros(1, dtype=torch.float32), positions)
    half = cosines.shape[-1] // 2
    return torch.complex(cosines[0, :, :half], sines[0, :, :half])[:, None]
