"""Reordering pretrained weights so that the most important units come first.

Heads, FFN neurons and hidden units may be permuted without changing the function, as long as
every tensor that has them is permuted alike. Leading slices are then the ones worth keeping.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sortednet_cli.errors import RequestError
from sortednet_cli.families.base import Config

_HEAD_ROWS, _HIDDEN_ROWS = ("heads", "hidden"), ("hidden", "heads")

_ROLES: list[tuple[str, tuple[str, ...]]] = [
    # LLaMA and configs of its shape.
    (r"self_attn\.[qkv]_proj\.weight$", _HEAD_ROWS),
    (r"self_attn\.[qkv]_proj\.bias$", ("heads",)),
    (r"self_attn\.o_proj\.weight$", _HIDDEN_ROWS),
    (r"mlp\.(gate|up)_proj\.weight$", ("ffn", "hidden")),
    (r"mlp\.(gate|up)_proj\.bias$", ("ffn",)),
    (r"mlp\.down_proj\.weight$", ("hidden", "ffn")),
    (r"(o_proj|down_proj)\.bias$", ("hidden",)),
    (r"(norm|layernorm)\.weight$", ("hidden",)),
    (r"(embed_tokens|lm_head)\.weight$", ("", "hidden")),
    # BERT and RoBERTa.
    (r"attention\.self\.(query|key|value)\.weight$", _HEAD_ROWS),
    (r"attention\.self\.(query|key|value)\.bias$", ("heads",)),
    (r"attention\.output\.dense\.weight$", _HIDDEN_ROWS),
    (r"intermediate\.dense\.weight$", ("ffn", "hidden")),
    (r"intermediate\.dense\.bias$", ("ffn",)),
    (r"layer\.\d+\.output\.dense\.weight$", ("hidden", "ffn")),
    (r"(pooler|transform|classifier|lm_head)\.dense\.weight$", ("hidden", "hidden")),
    (r"(output|pooler|transform|classifier|lm_head)\.dense\.bias$", ("hidden",)),
    (r"(LayerNorm|layer_norm)\.(weight|bias)$", ("hidden",)),
    (r"(embeddings|decoder|classifier|out_proj)\.weight$", ("", "hidden")),
    (r"(decoder|classifier|out_proj|predictions|lm_head)\.bias$", ("",)),
]
"""What each dimension of a tensor counts, by the end of its name; the first match decides."""


def roles_of(name: str) -> tuple[str, ...]:
    """Return what each dimension of a tensor counts: heads, ffn, hidden or nothing of ours.

    Raises:
        RequestError: no rule names the tensor; it is never guessed.
    """
    for pattern, roles in _ROLES:
        if re.search(pattern, name):
            return roles
    raise RequestError(f"model.reorder: no rule says what the dimensions of {name} count")


@torch.no_grad()
def reorder_by_importance(module: nn.Module, config: Config, layers: str) -> None:
    """Permute hidden units, and each layer's heads and FFN neurons, the most important first.

    A unit's importance is the product of the norms of its weights in all tensors that have
    it. Query heads move together with the key and value head they share.

    Args:
        module: the root network, changed in place.
        config: its stock configuration.
        layers: path of its list of layers.
    """
    tensors = dict(module.named_parameters())
    num_units = {
        "hidden": int(config["hidden_size"]),
        "heads": int(config.get("num_key_value_heads") or config["num_attention_heads"]),
        "ffn": int(config["intermediate_size"]),
    }
    scores: dict[tuple[str, str], Tensor] = {}
    for name, tensor in tensors.items():
        for dim, role in enumerate(roles_of(name)):
            if role and tensor.ndim > 1:
                key = (role, _layer(name, layers) if role != "hidden" else "")
                squares = _grouped(tensor, dim, num_units[role]).float().square()
                others = [d for d in range(squares.ndim) if d != dim]
                norms = squares.sum(others).clamp_min(1e-30).log()
                scores[key] = scores.get(key, torch.zeros_like(norms)) + norms
    orders = {key: score.argsort(descending=True, stable=True) for key, score in scores.items()}
    for name, tensor in tensors.items():
        tensor.copy_(_permuted(name, tensor, orders, num_units, layers))


def _permuted(
    name: str,
    tensor: Tensor,
    orders: Mapping[tuple[str, str], Tensor],
    num_units: Mapping[str, int],
    layers: str,
) -> Tensor:
    result = tensor
    for dim, role in enumerate(roles_of(name)):
        if role:
            order = orders[role, _layer(name, layers) if role != "hidden" else ""]
            grouped = _grouped(result, dim, num_units[role])
            result = grouped.index_select(dim, order).reshape(tensor.shape)
    return result


def _grouped(tensor: Tensor, dim: int, count: int) -> Tensor:
    """View a dimension of size n as `count` units: [.., n, ..] to [.., count, n / count, ..]."""
    shape = tensor.shape
    return tensor.reshape(*shape[:dim], count, shape[dim] // count, *shape[dim + 1 :])


def _layer(name: str, layers: str) -> str:
    match = re.match(rf"{re.escape(layers)}\.(\d+)\.", name)
    assert match is not None, name
    return match[1]
