"""Initialise the residual blocks that shallow sub-models drop as identity.

While these blocks pass their input through, all depths compute the same features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sortednet_cli.nesting.network import NestedNetwork


def branch_ends(network: NestedNetwork) -> dict[str, Tensor]:
    """Return the last weight of each droppable block's branch, by the block's path in the root.

    A block that does more than add to its input is not included.
    """
    family, module = network.family, network.module
    kept = [{p for p in family.module_map(s).values() if p} for s in network.space.submodels]
    optional = kept[0].union(*kept) - kept[0].intersection(*kept)
    ends = {path: family.branch_end(module.get_submodule(path)) for path in optional}
    return {path: end for path, end in sorted(ends.items()) if end is not None}


@torch.no_grad()
def init_as_identity(network: NestedNetwork) -> None:
    """Zero the end of each droppable block's branch, so that all depths start with the same
    features."""
    for end in branch_ends(network).values():
        end.zero_()
