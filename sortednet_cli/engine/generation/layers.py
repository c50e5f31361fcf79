"""One decoder layer, with its weights laid out for few, large kernels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sortednet_cli.engine.generation.positions import Positions
from sortednet_cli.engine.generation.products import Product

_Weight = tuple[Tensor, Tensor | None]
"""A weight [O, C] and a bias [O], if there is one."""


class FusedLayer:
    """A layer of a stock LLaMA, Qwen2 or Mistral; the caller owns its key-value cache.

    Query, key and value share one matrix product, and gate and up another. Query and key features
    are stored in pairs, so that the rotary embedding is one complex product; the order of features
    does not change their dot products. Passes of several positions after the prompt may take
    packed weights, which are made when the first of them runs, beside the others. What a prompt or
    a single position gives is then the same in every mode.

    Args:
        layer: the stock layer, whose weights are shared where they serve as they are.
        config: the stock configuration.
        index: the layer's number.
        dtype: of states and cache; the weights keep theirs.
        pack: whether large weights of half the size are kept in oneDNN's blocks alone.

    Attributes:
        products: its products; their ways are the caller's to choose.
    """

    rotation = ""  # the same in all layers

    def __init__(
        self, layer: Any, config: Any, index: int, dtype: torch.dtype, *, pack: bool
    ) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.heads = int(config.num_attention_heads)
        self.key_heads = int(config.num_key_value_heads)
        self.head_dim = int(attention.head_dim)
        self.groups = self.heads // self.key_heads
        self.window = attention_window(config, index)
        self.scale = float(attention.scaling)
        pairs = _pair_order(self.head_dim)
        queries = _reordered(attention.q_proj, self.heads, pairs)
        keys = _reordered(attention.k_proj, self.key_heads, pairs)
        values = _weight_and_bias(attention.v_proj)
        gate_up = [_weight_and_bias(mlp.gate_proj), _weight_and_bias(mlp.up_proj)]
        self.products = Products(
            Product(*_stacked([queries, keys, values]), pack=pack),
            Product(*_weight_and_bias(attention.o_proj), pack=pack),
            Product(*_stacked(gate_up), pack=pack),
            Product(*_weight_and_bias(mlp.down_proj), pack=pack),
        )
        self._several: Products | None = None
        self._activation = mlp.act_fn
        self._attention_norm = layer.input_layernorm.weight.detach().to(dtype)
        self._mlp_norm = layer.post_attention_layernorm.weight.detach().to(dtype)
        self._epsilon = float(layer.input_layernorm.variance_epsilon)
        self._shape = tuple(self._attention_norm.shape)

    def __call__(
        self,
        states: Tensor,
        rotations: Tensor,
        keys: Tensor,
        values: Tensor,
        positions: Positions,
        mask: Tensor | None,
    ) -> Tensor:
        """Run some positions, as `Layer` says; rotations as `rotate` takes them."""
        count = len(states)
        products = self._products_for(count, positions)
        normed = F.rms_norm(states, self._shape, self._attention_norm, self._epsilon)
        qkv = products.qkv(normed).reshape(count, -1, self.head_dim)
        rotated = rotate(qkv[:, : self.heads + self.key_heads], rotations)
        new_keys = rotated[:, self.heads :].transpose(0, 1)
        new_values = qkv[:, self.heads + self.key_heads :].transpose(0, 1)
        keys = positions.extend(keys, new_keys, self.window)
        values = positions.extend(values, new_values, self.window)
        attended = self._attend(rotated[:, : self.heads], keys, values, mask)
        states = products.out.add_to(states, attended)
        normed = F.rms_norm(states, self._shape, self._mlp_norm, self._epsilon)
        gate, up = products.gate_up(normed).chunk(2, -1)
        return products.down.add_to(states, self._activation(gate) * up)

    def _products_for(self, count: int, positions: Positions) -> Products:
        # A prompt's float32 products take weights as they are: no copies are made for it alone.
        prompt = not (positions.follow or self.products.qkv.is_half)
        if prompt or count < self.products.packs_from:
            return self.products
        if self._several is None:
            self._several = self.products.with_copies()
        return self._several

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from queries [n, H, D] to keys [K, T, D]; the heads of a group share a key."""
        count, groups = len(queries), self.groups
        if count == 1 and torch.compiler.is_compiling():
            return self._attend_once(queries, keys, values)
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
        # reshape, as some kernels order their output by position instead of by head.
        return out.reshape(self.key_heads, count, -1).transpose(0, 1).reshape(count, -1)

    def _attend_once(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend from queries [1, H, D] by sums that a compiler fuses with all around them."""
        by_key = queries.reshape(self.key_heads, self.groups, 1, self.head_dim)
        scores = (by_key * keys[:, None]).sum(-1) * self.scale
        return (scores.softmax(-1)[..., None] * values[:, None]).sum(2).reshape(1, -1)


@dataclass(frozen=True)
class Products:
    """The products of a layer."""

    qkv: Product
    out: Product
    gate_up: Product
    down: Product

    @property
    def packs_from(self) -> float:
        """The fewest rows that are faster with packed copies of weights."""
        return min(product.packs_from for product in self)

    def with_copies(self) -> Products:
        """Return them with packed copies of their weights beside them."""
        return Products(*(product.with_copy() for product in self))

    def __iter__(self) -> Iterator[Product]:
        return iter((self.qkv, self.out, self.gate_up, self.down))


def rotate(features: Tensor, rotations: Tensor) -> Tensor:
    """Rotate pairs of features [n, H, D] (RoFormer, arXiv 2104.09864).

    Args:
        rotations: complex [n, 1, D / 2]; or the same as real numbers [n, 1, D / 2, 2], which takes
            more kernels, but a compiler can fuse them.
    """
    count, heads, _ = features.shape
    if not rotations.is_complex():
        first, second = features.float().reshape(count, heads, -1, 2).unbind(-1)
        cosines, sines = rotations.unbind(-1)
        turned = (first * cosines - second * sines, first * sines + second * cosines)
        return torch.stack(turned, -1).flatten(-2).to(features.dtype)
    if features.stride(-1) != 1:
        features = features.contiguous()
    pairs = torch.view_as_complex(features.float().reshape(count, heads, -1, 2))
    return torch.view_as_real(pairs * rotations).flatten(-2).to(features.dtype)


def _pair_order(head_dim: int) -> Tensor:
    """Return the order that puts feature i next to i + D / 2, which the layer rotates together."""
    return torch.arange(head_dim).view(2, -1).t().flatten()


def _weight_and_bias(linear: Any) -> _Weight:
    bias = linear.bias
    return linear.weight.detach(), None if bias is None else bias.detach()


def _reordered(linear: Any, heads: int, order: Tensor) -> _Weight:
    weight, bias = _weight_and_bias(linear)
    order = order.to(weight.device)
    weight = weight.reshape(heads, -1, weight.shape[1])[:, order].flatten(0, 1)
    return weight, None if bias is None else bias.reshape(heads, -1)[:, order].flatten()


def _stacked(parts: list[_Weight]) -> _Weight:
    """Stack linear layers of one input; missing biases become zeros if another has one."""
    weight = torch.cat([weight for weight, _ in parts])
    if all(bias is None for _, bias in parts):
        return weight, None
    filled = [w.new_zeros(len(w)) if bias is None else bias for w, bias in parts]
    return weight, torch.cat(filled)


def attention_window(config: Any, index: int) -> int:
    """Return a layer's attention window, its own position included; 0 means all positions."""
    types = getattr(config, "layer_types", None)
    if types and types[index] != "sliding_attention":
        return 0
    return int(getattr(config, "sliding_window", None) or 0)


def causal_mask(
    rows: int, columns: int, past: int | Tensor, groups: int, window: int, like: Tensor
) -> Tensor:
    """Make a causal mask [rows * groups, columns], in which every row is repeated `groups` times.

    It is 0 if position `past + i` sees column j, else minus infinity.

    Args:
        past: a number, or a tensor [1] on the device.
    """
    positions = past + torch.arange(rows, device=like.device).repeat_interleave(groups)
    return mask_of(positions, columns, window, like)


def mask_of(positions: Tensor, columns: int, window: int, like: Tensor) -> Tensor:
    """Make a mask [B, columns]: 0 if the position of row b sees column j, else minus infinity.

    Args:
        positions: a position for each row, [B].
    """
    column = torch.arange(columns, device=like.device)
    hidden = column > positions[:, None]
    if window:
        hidden |= column <= positions[:, None] - window
    mask = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
    return mask.masked_fill_(hidden, -math.inf)
