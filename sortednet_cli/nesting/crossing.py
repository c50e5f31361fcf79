"""Crossing weights: those that feed wide-only channels into channels that narrow sub-models keep.

While they are zero, the shared channels compute the same features at every width: the first
channels of a wide network are the narrow network. This is the lower-triangular weight matrix of
Any-Width Networks (arXiv 2012.03153).
"""

from __future__ import annotations

import torch
from torch import Tensor

from sortednet_cli.nesting.network import NestedNetwork
from sortednet_cli.nesting.slices import Segments, entries


def crossing_weights(network: NestedNetwork) -> dict[str, Tensor]:
    """Return a mask [out, in] of the crossing weights, for each parameter that has any.

    A weight crosses if some sub-model has its output channel but not its input channel. A layer
    that keeps all outputs in every sub-model (a classifier) has no crossing weights, nor has one
    that keeps all inputs.
    """
    sizes: dict[str, set[tuple[Segments, ...]]] = {}
    for submodel in network.space.submodels:
        for piece in network.plan(submodel).slices.values():
            # Of a tied tensor's two names, only one is a parameter's.
            if len(piece.shape) > 1 and piece.source in network.parameters:
                sizes.setdefault(piece.source, set()).add(piece.segments[:2])
    masks = {}
    for name, pairs in sizes.items():
        if any(len(set(channels)) == 1 for channels in zip(*pairs, strict=True)):
            continue
        shape = network.parameters[name].shape[:2]
        mask = torch.zeros(shape, dtype=torch.bool)
        for kept in pairs:
            has_out, has_in = (entries(s, size) for s, size in zip(kept, shape, strict=True))
            mask |= has_out[:, None] & ~has_in
        masks[name] = mask
    return masks


def broadcast_mask(mask: Tensor, weight: Tensor) -> Tensor:
    """Reshape a mask [out, in] to [out, in, 1, ...], so that it broadcasts over its weight."""
    return mask.reshape(*mask.shape, *[1] * (weight.dim() - 2))


@torch.no_grad()
def zero_crossing_weights(network: NestedNetwork) -> None:
    """Zero the crossing weights, so that all widths start with the same features."""
    for name, mask in crossing_weights(network).items():
        weight = network.parameters[name]
        weight.masked_fill_(broadcast_mask(mask, weight).to(weight.device), 0.0)
