"""Weights that lead from a channel of wider sub-models alone into one that narrower ones have too.

While they are zero, what the narrower sub-models compute does not depend on the width that runs:
the first channels of a wide network are the narrow one (the lower-triangular weight matrices of
Any-Width Networks, arXiv 2012.03153).
"""

from __future__ import annotations

import torch
from torch import Tensor

from sortednet_cli.nesting.network import NestedNetwork


def crossing_weights(network: NestedNetwork) -> dict[str, Tensor]:
    """Find them: masks [out, in] by parameter, of those that have any.

    A weight crosses if some sub-model has its output and not its input. Layers with all outputs in
    every sub-model (a classifier) have none: there is nothing that a narrower one would keep.
    """
    sizes: dict[str, set[tuple[int, int]]] = {}
    for submodel in network.space.submodels:
        for piece in network.plan(submodel).slices.values():
            # A tied tensor has two names, of which one is a parameter's.
            if len(piece.shape) > 1 and piece.source in network.parameters:
                sizes.setdefault(piece.source, set()).add((piece.shape[0], piece.shape[1]))
    masks = {}
    for name, found in sizes.items():
        if len({out for out, _ in found}) == 1 or len({into for _, into in found}) == 1:
            continue
        mask = torch.zeros(network.parameters[name].shape[:2], dtype=torch.bool)
        for num_out, num_in in found:
            mask[:num_out, num_in:] = True
        masks[name] = mask
    return masks


def spread(mask: Tensor, weight: Tensor) -> Tensor:
    """Give a mask [out, in] the dimensions of its weight: [out, in, 1, ...]."""
    return mask.reshape(*mask.shape, *[1] * (weight.dim() - 2))


@torch.no_grad()
def zero_crossing_weights(network: NestedNetwork) -> None:
    """Let all widths begin with the same features; training moves the weights from zero."""
    for name, mask in crossing_weights(network).items():
        weight = network.parameters[name]
        weight.masked_fill_(spread(mask, weight).to(weight.device), 0.0)
