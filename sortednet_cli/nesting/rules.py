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

    def draw(self, random: Random, progress: float = 1.0) -> list[Share]:
        """Choose the sub-models of one micro-batch, the largest of them first.

        Args:
            progress: which share of the training is done.
        """
        ...


@dataclass(frozen=True)
class Sorted:
    """Any `count` sub-models, uniform over the search space (SortedNet, arXiv 2309.00255)."""

    space: SearchSpace
    count: int = 1

    def draw(self, random: Random, progress: float = 1.0) -> list[Share]:
        indices = random.sample(range(len(self.space)), self.count)
        return _equal([self.space.submodels[index] for index in sorted(indices, reverse=True)])


@dataclass(frozen=True)
class Sandwich:
    """Largest, smallest and `num_random` others (US-Nets, arXiv 1903.05134), equal weights."""

    space: SearchSpace
    num_random: int

    def draw(self, random: Random, progress: float = 1.0) -> list[Share]:
        between = self.space.submodels[1:-1]
        drawn = random.sample(between, min(self.num_random, len(between)))
        chosen = dict.fromkeys([self.space.largest, *drawn, self.space.smallest])
        return _equal(list(chosen))


@dataclass(frozen=True)
class EveryDepth:
    """All depths of each sub-model that `outer` draws from the other axes (SoFT, 2309.08968).

    `outer` is None where depth is the only axis. `weights` are relative, one for each of the
    ascending `depths`.
    """

    outer: Rule | None
    depths: tuple[int | float, ...]
    weights: tuple[float, ...]

    def draw(self, random: Random, progress: float = 1.0) -> list[Share]:
        points = [(s.axes, w) for s, w in self.outer.draw(random)] if self.outer else [({}, 1.0)]
        total = sum(self.weights)
        exits = list(zip(self.depths, self.weights, strict=True))[::-1]
        return [
            (SubModel.of({**axes, "depth": depth}), share * weight / total)
            for axes, share in points
            for depth, weight in exits
        ]


@dataclass(frozen=True)
class Single:
    """One named sub-model: the baseline that everything is compared with."""

    submodel: SubModel

    def draw(self, random: Random, progress: float = 1.0) -> list[Share]:
        return [(self.submodel, 1.0)]


@dataclass(frozen=True)
class LargestFirst:
    """The largest alone for the first `share` of a training, then another rule.

    The order of progressive shrinking (Once-for-all, arXiv 1908.09791).
    """

    largest: Single
    then: Rule
    share: float

    def draw(self, random: Random, progress: float = 1.0) -> list[Share]:
        now = self.largest if progress < self.share else self.then
        return now.draw(random, progress)


def make_rule(spec: TrainSpec, space: SearchSpace) -> Rule:
    """Make the rule that a spec names; RequestError if the search space does not allow it."""
    rule = _named_rule(spec, space)
    if not spec.largest_first:
        return rule
    return LargestFirst(Single(space.largest), rule, spec.largest_first)


def _named_rule(spec: TrainSpec, space: SearchSpace) -> Rule:
    if spec.rule == "sorted":
        if spec.draws > len(space):
            raise RequestError(
                f"train.draws = {spec.draws}: the search space has {len(space)} sub-models"
            )
        return Sorted(space, spec.draws)
    if spec.rule == "sandwich":
        return Sandwich(space, spec.num_random)
    if spec.rule == "single":
        return Single(space.named(spec.submodel) if spec.submodel else space.largest)
    return _every_depth(spec, space)


def _every_depth(spec: TrainSpec, space: SearchSpace) -> EveryDepth:
    axes = dict(space.axes)
    depths = axes.pop("depth", None)
    if depths is None:
        raise RequestError(f"train.rule: the rule '{spec.rule}' needs a depth axis in [space]")
    weights = spec.depth_weights or (1.0,) * len(depths)
    if len(weights) != len(depths):
        raise RequestError(f"train.depth_weights: {len(weights)} weights for {len(depths)} depths")
    rest = SearchSpace.of(axes)
    outer = Sandwich(rest, spec.num_random) if spec.rule == "sandwich-sum" else Sorted(rest)
    return EveryDepth(outer if axes else None, depths, tuple(weights))


def _equal(submodels: list[SubModel]) -> list[Share]:
    return [(submodel, 1 / len(submodels)) for submodel in submodels]
