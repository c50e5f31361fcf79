"""Reordering of pretrained weights by importance.

Permuting heads, FFN neurons or hidden units does not change the function if all tensors that have
them are permuted alike. With the most important units first, leading slices keep those units.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sortednet_cli.families.fused import Fused, fused_as
from sortednet_cli.families.root import Config
from sortednet_cli.families.transformers.architecture import Architecture
from sortednet_cli.families.transformers.roles import Roles, roles_of

_OF_ALL_LAYERS = ("hidden", "embedding")


@torch.no_grad()
def reorder_by_importance(
    module: nn.Module,
    config: Config,
    architecture: Architecture,
    activations: Mapping[str, Tensor],
) -> None:
    """Put the most important units first: of states, embedding, and the layers' heads and FFN.

    A unit's importance is the product of the norms of its weights in all tensors that have it, or,
    if activations are given, of their sizes in all layers that read it. Query heads move together
    with the key and value head that they share.

    Args:
        module: the root network, changed in place.
        config: its stock configuration.
        architecture: its architecture, with the roles of the dimensions of its tensors.
        activations: by the path of a layer, the mean sizes of its inputs [units]; empty to go by
            weights.
    """
    tensors = dict(module.named_parameters())
    num_units = {
        # The last entry of heads counts key and value heads, whose groups of query heads move.
        role: [int(config[key]) for key in architecture.scales[role] if config.get(key)][-1]
        for role in architecture.scales
        if role != "width"
    }
    if num_units.get("embedding") == num_units["hidden"]:  # nothing projects one to the other
        architecture = replace(architecture, roles=_without_embedding(architecture.roles))
    parts_of = partial(_parts_of, architecture.fused_tensors(config))
    scores: dict[_Units, Tensor] = {}
    for name, tensor in tensors.items():
        for dim, units in _units_of(name, architecture):
            if activations:
                found = activations.get(name.rpartition(".")[0])
                if found is not None and dim == _input_dim(module, name):
                    sizes = _grouped(found, 0, num_units[units.role])
                    norms = sizes.mean(1).clamp_min(1e-30).log()
                    scores[units] = scores.get(units, torch.zeros_like(norms)) + norms
            elif tensor.ndim > 1:
                for part in parts_of(name, tensor, dim):
                    squares = _grouped(part, dim, num_units[units.role]).float().square()
                    others = [d for d in range(squares.ndim) if d != dim]
                    norms = squares.sum(others).clamp_min(1e-30).log()
                    scores[units] = scores.get(units, torch.zeros_like(norms)) + norms
    orders = {units: score.argsort(descending=True, stable=True) for units, score in scores.items()}
    for name, tensor in tensors.items():
        result = tensor.data
        for dim, units in _units_of(name, architecture):
            if units not in orders:  # nothing that was measured reads them
                continue
            parts = [
                _grouped(part, dim, num_units[units.role])
                .index_select(dim, orders[units])
                .reshape(part.shape)
                for part in parts_of(name, result, dim)
            ]
            result = torch.cat(parts, dim)
        tensor.copy_(result)


def reading_layers(module: nn.Module, architecture: Architecture) -> dict[str, int]:
    """The layers whose inputs are units, each with the dimension of its input that counts them."""
    return {
        name.rpartition(".")[0]: -1
        for name, tensor in module.named_parameters()
        for dim, _ in _units_of(name, architecture)
        if tensor.ndim == 2 and dim == _input_dim(module, name)
    }


def _input_dim(module: nn.Module, name: str) -> int | None:
    """The dimension of a weight that counts the inputs of its layer; None for other tensors."""
    path, _, leaf = name.rpartition(".")
    kind = type(module.get_submodule(path)).__name__
    return {"Linear": 1, "Conv1D": 0}.get(kind) if leaf == "weight" else None


def _without_embedding(table: Roles) -> Roles:
    """Take the units of an embedding for hidden units."""
    return tuple(
        (pattern, tuple("hidden" if role == "embedding" else role for role in roles))
        for pattern, roles in table
    )


class _Units(NamedTuple):
    """Units that have one common order: in one layer, or, if `layer` is empty, in all."""

    role: str
    layer: str


def _units_of(name: str, architecture: Architecture) -> Iterator[tuple[int, _Units]]:
    """Yield each dimension of a tensor that counts units, with these units."""
    for dim, role in enumerate(roles_of(name, architecture.roles)):
        if role:
            layer = "" if role in _OF_ALL_LAYERS else _layer(name, architecture.layers)
            yield dim, _Units(role, layer)


def _parts_of(
    declared: Mapping[str, Fused], name: str, tensor: Tensor, dim: int
) -> Sequence[Tensor]:
    """Split a tensor into the parts that it holds along a dimension: itself unless it is fused."""
    fused = fused_as(name, declared)
    if fused is None or dim != (fused.dim if tensor.ndim > 1 else 0):
        return [tensor]
    return torch.split(tensor, list(fused.sizes(name, tensor.shape[dim])), dim)


def _grouped(tensor: Tensor, dim: int, count: int) -> Tensor:
    """View a dimension of size n as `count` units: [.., n, ..] to [.., count, n / count, ..]."""
    shape = tensor.shape
    return tensor.reshape(*shape[:dim], count, shape[dim] // count, *shape[dim + 1 :])


def _layer(name: str, layers: str) -> str:
    match = re.match(rf"{re.escape(layers)}\.(\d+)\.", name)
    assert match is not None, name
    return match[1]
