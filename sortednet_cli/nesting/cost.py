"""A sub-model's costs, computed from its skeleton without any weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from sortednet_cli.families import Family, Inputs
from sortednet_cli.nesting.skeleton import build_skeleton
from sortednet_cli.space import SubModel


@dataclass(frozen=True)
class SubModelCost:
    """Parameters, and multiply-adds per unit: an image, or a token of a full sequence."""

    params: int
    macs: int


def cost_of(
    family: Family, submodel: SubModel, random_inputs: Callable[[int], Inputs], num_units: int
) -> SubModelCost:
    """Count a sub-model's parameters and multiply-adds (convolutions and matrix products).

    Args:
        random_inputs: makes inputs of a given number of samples at the task's input size.
        num_units: number of units in one sample.
    """
    from torch.utils.flop_counter import FlopCounterMode  # imported late: it imports triton

    skeleton = build_skeleton(family, family.shrink(submodel)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device("meta"):
        family.forward(skeleton, random_inputs(1))
    params = sum(parameter.numel() for parameter in skeleton.parameters())
    return SubModelCost(params, counter.get_total_flops() // (2 * num_units))
