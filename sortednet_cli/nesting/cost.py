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
    skeleton = build_skeleton(family, family.shrink(submodel)).eval()
    return _cost(family, skeleton, kinds_of(skeleton), _one_sample(random_inputs), num_units)


class Costs:
    """Costs of sub-models, counted on the skeletons that become their modules.

    A module may keep something of what it ran with, and a network must not get that. So a skeleton
    that has changed is not used, and one whose state cannot be compared does not run.

    Args:
        random_inputs: makes inputs of a given number of samples at the task's input size.
        num_units: number of units in one sample.
    """

    def __init__(
        self, family: Family, random_inputs: Callable[[int], Inputs], num_units: int
    ) -> None:
        self._given = family, random_inputs, num_units
        self._inputs = _one_sample(random_inputs)
        self._known: dict[SubModel, SubModelCost] = {}

    def of(self, submodel: SubModel) -> SubModelCost:
        """Return what was counted, or count it now."""
        family, random_inputs, num_units = self._given
        if submodel not in self._known and spare_skeleton(family, submodel):
            take_skeleton(family, submodel, self.count)
        if submodel not in self._known:
            self._known[submodel] = cost_of(family, submodel, random_inputs, num_units)
        return self._known[submodel]

    def count(self, submodel: SubModel, skeleton: nn.Module) -> bool:
        """Count the cost of a skeleton, and return whether it is as it was."""
        family, _, num_units = self._given
        if skeleton not in (kinds := kinds_of(skeleton.eval())):
            return True
        self._known[submodel] = _cost(family, skeleton, kinds, self._inputs, num_units)
        return kinds_of(skeleton) == kinds


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
