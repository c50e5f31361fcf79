"""Rules: which sub-models one micro-batch trains, and how their losses combine."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from random import Random
from typing import Protocol

from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import TrainSpec
from sortednet_cli.spec.rules import check_rule

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
class Phase:
    """A part of a training.

    Attributes:
        start: the share of the training after which it begins.
        rule: what it draws from.
        opened: holds every sub-model that it or a phase before it draws.
    """

    start: float
    rule: Rule
    opened: SubModel


@dataclass(frozen=True)
class Phases:
    """One rule after another over a training; the first begins at 0."""

    phases: tuple[Phase, ...]

    def at(self, progress: float) -> Phase:
        begun = bisect_right([phase.start for phase in self.phases], progress)
        return self.phases[begun - 1]

    def draw(self, random: Random, progress: float = 1.0) -> list[Share]:
        return self.at(progress).rule.draw(random)

    def lengths(self) -> list[tuple[float, Rule]]:
        """Which share of the training each rule has."""
        ends = [phase.start for phase in self.phases[1:]] + [1.0]
        return [(end - p.start, p.rule) for p, end in zip(self.phases, ends, strict=True)]


def make_rule(spec: TrainSpec, space: SearchSpace) -> Rule:
    """Make the rule that a spec names; RequestError if the search space does not allow it.

    `largest_first` trains the largest alone before it, in the order of progressive shrinking
    (Once-for-all, arXiv 1908.09791). `smallest_first` applies it to a search space that opens
    from its smallest sub-model (as networks grow in arXiv 1710.10196).
    """
    check_rule(spec, space)
    whole = _named_rule(spec, space)
    if spec.largest_first:
        first = Phase(0.0, Single(space.largest), space.largest)
        return Phases((first, Phase(spec.largest_first, whole, space.largest)))
    if spec.smallest_first:
        return Phases(
            tuple(
                Phase(start * spec.smallest_first, _named_rule(spec, part), part.largest)
                for start, part in space.openings()
            )
        )
    return whole


def _named_rule(spec: TrainSpec, space: SearchSpace) -> Rule:
    """The rule over the spec's search space or a part of it."""
    if spec.rule == "sorted":
        return Sorted(space, min(spec.draws, len(space)))
    if spec.rule == "sandwich":
        return Sandwich(space, spec.num_random)
    if spec.rule == "single":
        return Single(space.named(spec.submodel) if spec.submodel else space.largest)
    axes = dict(space.axes)
    depths = axes.pop("depth")
    weights = (spec.depth_weights or (1.0,) * len(depths))[: len(depths)]
    rest = SearchSpace.of(axes)
    outer = Sandwich(rest, spec.num_random) if spec.rule == "sandwich-sum" else Sorted(rest)
    return EveryDepth(outer if axes else None, depths, weights)


def _equal(submodels: list[SubModel]) -> list[Share]:
    return [(submodel, 1 / len(submodels)) for submodel in submodels]
