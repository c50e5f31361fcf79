"""Residual blocks that shallower sub-models lack, begun as identity.

While they pass their input through, what a shallower sub-model computes does not depend on the
depth that runs: all depths begin with the same features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sortednet_cli.nesting.network import NestedNetwork


def branch_ends(network: NestedNetwork) -> dict[str, Tensor]:
    """Find the last weight of each such block's branch, by the block's path in the root.

    Blocks that do more than add to their input have none.
    """
    family, module = network.family, network.module
    kept = [{p for p in family.module_map(s).values() if p} for s in network.space.submodels]
    optional = kept[0].union(*kept) - kept[0].intersection(*kept)
    ends = {path: family.branch_end(module.get_submodule(path)) for path in optional}
    return {path: end for path, end in sorted(ends.items()) if end is not None}


@torch.no_grad()
def begin_as_identity(network: NestedNetwork) -> None:
    """Let all depths begin with the same features; training moves the weights from zero."""
    for end in branch_ends(network).values():
        end.zero_()
