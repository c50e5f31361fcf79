"""Rules: which sub-models one micro-batch trains, and how their losses combine."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Protocol

from sortednet_cli.errors import RequestError
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import TrainSpec

Share = tuple[SubModel, float]
"""A sub-model and the weight of its loss; the weights of one micro-batch sum to one."""


class Rule(Protocol):
    """A pure choice: the same random stream gives the same sub-models."""

    def draw(self, random: Random) -> list[Share]:
        """Choose the sub-models of one micro-batch, the largest of them first."""
        ...


@dataclass(frozen=True)
class Sorted:
    """One sub-model, uniform over the search space (SortedNet, arXiv 2309.00255)."""

    space: SearchSpace

    def draw(self, random: Random) -> list[Share]:
        return [(random.choice(self.space.submodels), 1.0)]


@dataclass(frozen=True)
class Sandwich:
    """Largest, smallest and `num_random` others (US-Nets, arXiv 1903.05134), equal weights."""

    space: SearchSpace
    num_random: int

    def draw(self, random: Random) -> list[Share]:
        between = self.space.submodels[1:-1]
        drawn = random.sample(between, min(self.num_random, len(between)))
        chosen = dict.fromkeys([self.space.largest, *drawn, self.space.smallest])
        return _equal(list(chosen))


@dataclass(frozen=True)
class Sum:
    """All depths of one random width, the mean of their losses (SoFT, arXiv 2309.08968).

    `weights` are relative, one for each depth from the shallowest.
    """

    space: SearchSpace
    weights: tuple[float, ...]

    def draw(self, random: Random) -> list[Share]:
        axes = dict(self.space.axes)
        depths = axes.pop("depth")
        point = {axis: random.choice(values) for axis, values in axes.items()}
        total = sum(self.weights)
        return [
            (SubModel.of({**point, "depth": depth}), weight / total)
            for depth, weight in reversed(list(zip(depths, self.weights, strict=True)))
        ]


@dataclass(frozen=True)
class Single:
    """One named sub-model: the baseline that everything is compared with."""

    submodel: SubModel

    def draw(self, random: Random) -> list[Share]:
        return [(self.submodel, 1.0)]


def make_rule(spec: TrainSpec, space: SearchSpace) -> Rule:
    """Make the rule that a spec names; RequestError if the search space does not allow it."""
    if spec.rule == "sorted":
        return Sorted(space)
    if spec.rule == "sandwich":
        return Sandwich(space, spec.num_random)
    if spec.rule == "single":
        return Single(space.named(spec.submodel) if spec.submodel else space.largest)
    depths = dict(space.axes).get("depth")
    if depths is None:
        raise RequestError("train.rule: the rule 'sum' needs a depth axis in [space]")
    weights = spec.depth_weights or (1.0,) * len(depths)
    if len(weights) != len(depths):
        raise RequestError(f"train.depth_weights: {len(weights)} weights for {len(depths)} depths")
    return Sum(space, tuple(weights))


def _equal(submodels: list[SubModel]) -> list[Share]:
    return [(submodel, 1 / len(submodels)) for submodel in submodels]
