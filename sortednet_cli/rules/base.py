"""The abstract rule: which sub-models one micro-batch trains, and how their losses combine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from random import Random
from typing import Any, ClassVar, Literal

from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.space.submodel import without_depth
from sortednet_cli.spec import TrainSpec
from sortednet_cli.spec.fields import SpecModel

SAMPLE = 256
"""How many draws stand for all of a rule's, where it does not list them."""

Share = tuple[SubModel, float]
"""A sub-model and the weight of its loss; the weights of one micro-batch sum to one."""


class Rule(ABC):
    """A pure choice: the same random stream gives the same sub-models.

    A subclass says what it draws. Everything else has a default that is right for any rule,
    found from a sample of its draws; a rule that knows better overrides it.

    Attributes:
        loss: how the losses of a micro-batch combine, unless `train.loss` says it.
        options_model: the keys of `[train.rule_options]`; without one, the table is refused.
        train: the settings of the training.
        space: the search space that it draws from, which may be a part of the training's.
        options: the checked table, an `options_model`; None without one.
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
        """Raise RequestError, naming the field, if the search space does not allow the rule."""

    @abstractmethod
    def draw(self, random: Random, progress: float = 1.0) -> list[Share]:
        """Choose the sub-models of one micro-batch, the largest of them first.

        Args:
            random: the only source of chance.
            progress: the part of the training that is done, from 0 to 1.
        """

    def draws(self, start: float = 0.0, end: float = 1.0) -> list[list[SubModel]]:
        """List draws that are equally likely between two moments: all of them, or a sample."""
        return self._sample(SAMPLE, start, end)

    def heaviest(self) -> list[Share]:
        """Choose the draw that takes most memory.

        Sub-models that differ in depth alone are trained together, one such group after another.
        So the default takes the largest group, with as many depths as any draw holds together.
        """
        draws = self._sample(max(SAMPLE, 4 * len(self.space)), 0.0, 1.0)
        together = max(max(Counter(map(without_depth, draw)).values()) for draw in draws)
        groups: dict[object, list[SubModel]] = {}
        for submodel in sorted(set(chain(*draws)), key=self._size):
            groups.setdefault(without_depth(submodel), []).append(submodel)
        deepest = [group[::-1][:together] for group in groups.values()]
        return equal_shares(max(deepest, key=lambda group: sum(map(self._size, group))))

    def phases(self) -> list[Phase]:
        """Split the training into stretches, of which each has one rule."""
        return [Phase(0.0, 1.0, self)]

    def opened(self, progress: float) -> SubModel:
        """Name the smallest sub-model that holds all that may be drawn up to a moment."""
        return self.space.largest

    def _sample(self, count: int, start: float, end: float) -> list[list[SubModel]]:
        step = (end - start) / count
        moments = [start + step * (number + 0.5) for number in range(count)]
        return [
            [submodel for submodel, _ in self.draw(Random(number), moment)]
            for number, moment in enumerate(moments)
        ]

    def _size(self, submodel: SubModel) -> float:
        """Compare sub-models of any axes: the product of their shares of the largest values."""
        largest = self.space.largest.axes
        return prod(value / largest[axis] for axis, value in submodel.values)


@dataclass(frozen=True)
class Phase:
    """A stretch of a training in which one rule draws; the training lasts from 0 to 1."""

    start: float
    end: float
    rule: Rule

    @property
    def length(self) -> float:
        return self.end - self.start

    def draws(self) -> list[list[SubModel]]:
        """List equally likely draws of the stretch, as `Rule.draws` does."""
        return self.rule.draws(self.start, self.end)


def equal_shares(submodels: Sequence[SubModel]) -> list[Share]:
    """Give every sub-model the same weight."""
    return [(submodel, 1 / len(submodels)) for submodel in submodels]


def deepest(space: SearchSpace, count: int) -> list[SubModel]:
    """List the largest sub-model and the next smaller depths of it, `count` at most."""
    alike = [s for s in space.submodels if without_depth(s) == without_depth(space.largest)]
    return alike[::-1][:count]
