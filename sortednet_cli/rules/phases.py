"""Sequences of rules for `train.largest_first` and `train.smallest_first`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from random import Random

from sortednet_cli.rules.base import Phase, Rule, Share
from sortednet_cli.rules.single import Single
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import TrainSpec


class Phases(Rule):
    """Uses one rule after another.

    Args:
        rules: each rule with the fraction of the training at which it begins. The first begins at
            0; the last draws from the whole search space.
    """

    def __init__(self, train: TrainSpec, rules: Sequence[tuple[float, Rule]]) -> None:
        last = rules[-1][1]
        super().__init__(train, last.space)
        self.loss = last.loss
        self._starts = [start for start, _ in rules]
        self._rules = [rule for _, rule in rules]

    @property
    def first(self) -> Rule:
        starts = zip(self._starts, self._rules, strict=True)
        return Phases(self.train, [(start, rule.first) for start, rule in starts])

    def draw(self, random: Random, progress: float = 1.0) -> list[Share]:
        return self._at(progress).draw(random, progress)

    def heaviest(self) -> list[Share]:
        return self._rules[-1].heaviest()

    def phases(self) -> list[Phase]:
        ends = [*self._starts[1:], 1.0]
        return [Phase(*phase) for phase in zip(self._starts, ends, self._rules, strict=True)]

    def opened(self, progress: float) -> SubModel:
        return self._at(progress).opened(progress)

    def _at(self, progress: float) -> Rule:
        return self._rules[bisect_right(self._starts, progress) - 1]


def largest_first(kind: type[Rule], train: TrainSpec, space: SearchSpace) -> Rule:
    """Make a rule that trains the largest sub-model alone before it trains all sub-models.

    This is the order of progressive shrinking (Once-for-all, arXiv 1908.09791).
    """
    return Phases(train, [(0.0, Single(train, space)), (train.largest_first, kind(train, space))])


def smallest_first(kind: type[Rule], train: TrainSpec, space: SearchSpace) -> Rule:
    """Make a rule that opens the search space from the smallest sub-model (arXiv 1710.10196)."""
    return Phases(
        train,
        [
            (start * train.smallest_first, kind(train, part))
            for start, part in space.growth_schedule()
        ],
    )
