"""One decoder layer with its weights laid out for few, large kernels. Knows no other layer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sortednet_cli.errors import RequestError


class FusedLayer:
    """A layer of a stock LLaMA, Qwen2 or Mistral over a key-value cache that the caller holds.

    Query, key and value are one product, gate and up another, and both residual sums ride on
    a product. Query and key features are stored in pairs, so that the rotation is one complex
    product; their scalar products do not depend on the order.

    Args:
        layer: the stock layer; its output and down weights are shared where contiguous, the
            others copied.
        config: the stock configuration.
        index: which layer it is.
    """

    def __init__(self, layer: Any, config: Any, index: int) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.heads = int(config.num_attention_heads)
        self.key_heads = int(config.num_key_value_heads)
        self.head_dim = int(attention.head_dim)
        self.window = _window(config, index)
        self.scale = float(attention.scaling)
        pairs = _paired(self.head_dim)
        queries = _reordered(attention.q_proj, self.heads, pairs)
        keys = _reordered(attention.k_proj, self.key_heads, pairs)
        values = _parts(attention.v_proj)
        self._mix, self._mix_bias = _stacked([queries, keys, values])
        self._out, self._out_bias = _whole(attention.o_proj)
        self._up, self._up_bias = _stacked([_parts(mlp.gate_proj), _parts(mlp.up_proj)])
        self._down, self._down_bias = _whole(mlp.down_proj)
        self._activation = mlp.act_fn
        self._attention_norm = layer.input_layernorm.weight.detach()
        self._mlp_norm = layer.post_attention_layernorm.weight.detach()
        self._epsilon = float(layer.input_layernorm.variance_epsilon)
        self._shape = tuple(self._attention_norm.shape)

    def __call__(
        self,
        states: Tensor,
        rotations: Tensor,
        keys: Tensor,
        values: Tensor,
        first: int,
        mask: Tensor | None,
    ) -> Tensor:
        """Run positions `first` to `first + n`, and write their keys and values.

        Args:
            states: [n, C].
            rotations: complex [n, 1, D / 2].
            keys, values: the layer's cache [K, T, D], filled up to `first`.
            mask: added to the scores of n > 1 positions: [n * H / K, first + n], rows by
                position and then by head of a group. None: plain causal from position 0.

        Returns:
            The states after the layer, [n, C].
        """
        count, last = len(states), first + len(states)
        normed = F.rms_norm(states, self._shape, self._attention_norm, self._epsilon)
        mixed = _product(normed, self._mix, self._mix_bias).reshape(count, -1, self.head_dim)
        turned = _rotated(mixed[:, : self.heads + self.key_heads], rotations)
        keys[:, first:last] = turned[:, self.heads :].transpose(0, 1)
        values[:, first:last] = mixed[:, self.heads + self.key_heads :].transpose(0, 1)
        start = max(0, last - self.window) if self.window and count == 1 else 0
        attended = self._attend(
            turned[:, : self.heads], keys[:, start:last], values[:, start:last], mask
        )
        states = _sum(states, attended, self._out, self._out_bias)
        normed = F.rms_norm(states, self._shape, self._mlp_norm, self._epsilon)
        gate, up = _product(normed, self._up, self._up_bias).chunk(2, -1)
        return _sum(states, self._activation(gate) * up, self._down, self._down_bias)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Attention of [n, H, D] queries over [K, T, D]; the heads of a group share a key."""
        count, groups = len(queries), self.heads // self.key_heads
        if mask is None and count > 1:
            out = F.scaled_dot_product_attention(
                queries.transpose(0, 1)[None],
                keys[None],
                values[None],
                is_causal=True,
                scale=self.scale,
                enable_gqa=groups > 1,
            )
            return out[0].transpose(0, 1).reshape(count, -1)
        by_key = queries.reshape(count, self.key_heads, groups, self.head_dim).transpose(0, 1)
        rows = by_key.reshape(self.key_heads, count * groups, self.head_dim)
        out = F.scaled_dot_product_attention(
            rows[None], keys[None], values[None], attn_mask=mask, scale=self.scale
        )
        # Some kernels lay their output out by position, not by head.
        return out.reshape(self.key_heads, count, -1).transpose(0, 1).reshape(count, -1)


def check_layer(layer: Any) -> None:
    """RequestError unless a layer is one that `FusedLayer` computes."""
    attention, mlp = getattr(layer, "self_attn", None), getattr(layer, "mlp", None)
    known = all(hasattr(attention, f"{name}_proj") for name in ("q", "k", "v", "o"))
    plain = not hasattr(attention, "q_norm") and not hasattr(layer, "pre_feedforward_layernorm")
    gated = all(hasattr(mlp, f"{name}_proj") for name in ("gate", "up", "down"))
    if not (known and plain and gated):
        raise RequestError(f"{type(layer).__name__} is no layer of LLaMA, Qwen2 or Mistral")


def _rotated(features: Tensor, rotations: Tensor) -> Tensor:
    """Turn pairs of features [n, H, D] by complex [n, 1, D / 2] (RoFormer, arXiv 2104.09864)."""
    count, heads, _ = features.shape
    if features.stride(-1) != 1:
        features = features.contiguous()
    pairs = torch.view_as_complex(features.float().reshape(count, heads, -1, 2))
    return torch.view_as_real(pairs * rotations).flatten(-2).to(features.dtype)


def _paired(head_dim: int) -> Tensor:
    """Put feature i next to feature i + D / 2, which the stock layer turns it with."""
    return torch.arange(head_dim).view(2, -1).t().flatten()


def _parts(linear: Any) -> tuple[Tensor, Tensor | None]:
    bias = linear.bias
    return linear.weight.detach(), None if bias is None else bias.detach()


def _reordered(linear: Any, heads: int, order: Tensor) -> tuple[Tensor, Tensor | None]:
    weight, bias = _parts(linear)
    order = order.to(weight.device)
    weight = weight.reshape(heads, -1, weight.shape[1])[:, order].flatten(0, 1)
    return weight, None if bias is None else bias.reshape(heads, -1)[:, order].flatten()


def _stacked(parts: list[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor | None]:
    """Stack products of one input; a part without bias gets zeros where another has one."""
    weight = torch.cat([weight for weight, _ in parts])
    if all(bias is None for _, bias in parts):
        return weight, None
    filled = [w.new_zeros(len(w)) if bias is None else bias for w, bias in parts]
    return weight, torch.cat(filled)


def _whole(linear: Any) -> tuple[Tensor, Tensor | None]:
    weight, bias = _parts(linear)
    return weight.contiguous(), bias


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Inputs [n, C] by a weight [O, C], plus a bias."""
    if not _swaps(inputs):
        return F.linear(inputs, weight, bias)
    out = (weight @ inputs.t()).t()
    return out if bias is None else out + bias


def _sum(states: Tensor, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """States [n, O] plus inputs [n, C] by a weight [O, C], plus a bias."""
    if _swaps(inputs):
        out = torch.addmm(states.t(), weight, inputs.t()).t()
    else:
        out = torch.addmm(states, inputs, weight.t())
    return out if bias is None else out + bias


def _swaps(inputs: Tensor) -> bool:
    """Whether the product is faster with the weight on the left, where outputs lie by column.

    On CPUs it is for 7 to 32 rows: 16 cost what 7 do, and otherwise up to twice that
    (benchmarks/speed/row_costs.py).
    """
    return inputs.device.type == "cpu" and 7 <= len(inputs) <= 32


def _window(config: Any, index: int) -> int:
    """How many positions a layer looks back over, its own included; 0 means all."""
    types = getattr(config, "layer_types", None)
    if types and types[index] != "sliding_attention":
        return 0
    if config.model_type == "qwen2" and not getattr(config, "use_sliding_window", False):
        return 0
    return int(getattr(config, "sliding_window", None) or 0)


def causal_mask(
    rows: int, columns: int, past: int, groups: int, window: int, like: Tensor
) -> Tensor:
    """Zeros where position `past + i` sees column j, else minus infinity; [rows * groups, columns].

    Every row stands `groups` times in turn.
    """
    place = past + torch.arange(rows, device=like.device).repeat_interleave(groups)[:, None]
    column = torch.arange(columns, device=like.device)
    hidden = column > place
    if window:
        hidden |= column <= place - window
    mask = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
    return mask.masked_fill_(hidden, -math.inf)
