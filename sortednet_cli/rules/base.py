"""The base class of rules, which choose sub-models for a micro-batch and combine their losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import lcm, prod
from random import Random
from typing import Any, ClassVar, Literal

from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.space.submodel import without_depth
from sortednet_cli.spec import TrainSpec
from sortednet_cli.spec.fields import SpecModel

SAMPLE = 256
"""Number of draws in a sample, for rules that do not list all their draws."""

Share = tuple[SubModel, float]
"""A sub-model and the weight of its loss. The weights of a micro-batch sum to 1."""


class Rule(ABC):
    """Draws the sub-models of micro-batches. Equal random streams give equal draws.

    A subclass implements `draw`. The other methods have defaults that work for any rule, based on
    a sample of its draws; override them if the exact result is known.

    Attributes:
        loss: how the losses of a micro-batch combine, unless `train.loss` is set.
        options_model: pydantic model of `[train.rule_options]`; None if the rule has no options.
        train: the table `[train]` of the spec.
        space: the search space to draw from, which may be a part of the training's.
        options: the validated options, an `options_model`; None if the rule has none.
    """

    loss: Literal["mean", "sum"] = "mean"
    options_model: ClassVar[type[SpecModel] | None] = None

    def __init__(self, train: TrainSpec, space: SearchSpace) -> None:
        self.train = train
        self.space = space
        self.options: Any = None
        if self.options_model is not None:
            self.options = self.options_model.model_validate(train.rule_options or {})

    @property
    def sums_losses(self) -> bool:
        """Whether the losses of a micro-batch are summed, not averaged."""
        return (self.train.loss or self.loss) == "sum"

    @classmethod  # noqa: B027 - most rules fit any search space
    def check(cls, train: TrainSpec, space: SearchSpace) -> None:
        """RequestError with the field's name if the rule does not fit the search space."""

    @property
    def first(self) -> Rule:
        """The rule of the first micro-batch of every update: by default this one."""
        return self

    @abstractmethod
    def draw(self, random: Random, progress: float = 1.0) -> list[Share]:
        """Draw the sub-models of one micro-batch, the largest first.

        Args:
            random: the only source of randomness.
            progress: fraction of the training that is done, from 0 to 1.
        """

    def draws(self, start: float = 0.0, end: float = 1.0) -> list[list[SubModel]]:
        """List equally likely draws between two points of the training: all, or a sample.

        Args:
            start: fraction of the training at the first point.
            end: fraction of the training at the second point.
        """
        return self._sample(SAMPLE, start, end)

    def heaviest(self) -> list[Share]:
        """Return the draw that takes the most memory.

        Sub-models that differ only in depth are trained together, and one such group follows the
        other. The default is the largest group, with as many depths as any draw has in a group.
        """
        draws = self._sample(max(SAMPLE, 4 * len(self.space)), 0.0, 1.0)
        most_depths = max(max(Counter(map(without_depth, draw)).values()) for draw in draws)
        groups: dict[object, list[SubModel]] = {}
        for submodel in sorted(set(chain(*draws)), key=self._size):
            groups.setdefault(without_depth(submodel), []).append(submodel)
        deepest = [group[::-1][:most_depths] for group in groups.values()]
        return equal_shares(max(deepest, key=lambda group: sum(map(self._size, group))))

    def phases(self) -> list[Phase]:
        """Split the training into phases with one rule each."""
        return [Phase(0.0, 1.0, self)]

    def opened(self, progress: float) -> SubModel:
        """Return the smallest sub-model that contains all that are drawn up to `progress`."""
        return self.space.largest

    def _sample(self, count: int, start: float, end: float) -> list[list[SubModel]]:
        step = (end - start) / count
        moments = [start + step * (number + 0.5) for number in range(count)]
        return [
            [submodel for submodel, _ in self.draw(Random(number), moment)]
            for number, moment in enumerate(moments)
        ]

    def _size(self, submodel: SubModel) -> float:
        """Return a measure of size: the product of all axis values relative to the largest."""
        largest = self.space.largest.axes
        return prod(value / largest[axis] for axis, value in submodel.values)


@dataclass(frozen=True)
class Phase:
    """A part of the training in which one rule draws.

    Attributes:
        start: fraction of the training at which it begins.
        end: fraction of the training at which it ends.
        rule: the rule.
    """

    start: float
    end: float
    rule: Rule

    @property
    def length(self) -> float:
        return self.end - self.start

    def draws(self) -> list[list[SubModel]]:
        """List equally likely draws of all micro-batches of the phase, as `Rule.draws`."""
        others = self.rule.draws(self.start, self.end)
        if self.rule.first is self.rule:
            return others
        firsts = self.rule.first.draws(self.start, self.end)
        size = lcm(len(firsts), len(others))
        num_others = self.rule.train.accumulate - 1
        return firsts * (size // len(firsts)) + others * (size // len(others) * num_others)


def equal_shares(submodels: Sequence[SubModel]) -> list[Share]:
    """Give every sub-model the same weight."""
    return [(submodel, 1 / len(submodels)) for submodel in submodels]


def deepest(space: SearchSpace, count: int) -> list[SubModel]:
    """List the largest sub-model and its next smaller depths, at most `count` sub-models."""
    alike = [s for s in space.submodels if without_depth(s) == without_depth(space.largest)]
    return alike[::-1][:count]
