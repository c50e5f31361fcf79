"""A sub-model's costs, computed from its skeleton without any weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from sortednet_cli.families import Family, Inputs
from sortednet_cli.nesting.counting import Kinds, count_macs, kinds_of
from sortednet_cli.nesting.plan import spare_skeleton, take_skeleton
from sortednet_cli.nesting.skeleton import build_skeleton
from sortednet_cli.space import SearchSpace, SubModel


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
    skeleton = build_skeleton(family, family.shrink(submodel)).eval()
    return _cost(family, skeleton, kinds_of(skeleton), _one_sample(random_inputs), num_units)


def costs_of_spare_skeletons(
    family: Family, space: SearchSpace, random_inputs: Callable[[int], Inputs], num_units: int
) -> dict[SubModel, SubModelCost]:
    """Count the costs of sub-models from the skeletons that their plans were read from.

    A module may keep something of what it ran with, and a network must not get that. So a skeleton
    that has changed, or whose state cannot be compared, is not used: `cost_of` builds another.
    """
    costs, inputs = {}, _one_sample(random_inputs)
    for submodel in space.submodels:
        skeleton = spare_skeleton(family, submodel)
        if skeleton is None or skeleton not in (kinds := kinds_of(skeleton.eval())):
            continue
        costs[submodel] = _cost(family, skeleton, kinds, inputs, num_units)
        if kinds_of(skeleton) != kinds:
            take_skeleton(family, submodel)
    return costs


def _one_sample(random_inputs: Callable[[int], Inputs]) -> Inputs:
    """Make inputs of one sample on the meta device."""
    with torch.device("meta"):
        return random_inputs(1)


def _cost(
    family: Family, skeleton: nn.Module, kinds: Kinds, inputs: Inputs, num_units: int
) -> SubModelCost:
    _, macs = count_macs(kinds, partial(family.forward, skeleton, inputs))
    params = sum(parameter.numel() for parameter in skeleton.parameters())
    return SubModelCost(params, macs // num_units)
