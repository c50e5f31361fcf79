"""The rule `sorted`: sub-models drawn at random."""

from __future__ import annotations

from random import Random

from sortednet_cli.errors import RequestError
from sortednet_cli.rules.base import Rule, Share, deepest, equal_shares
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import TrainSpec


class Sorted(Rule):
    """`train.draws` sub-models, uniform over the search space (SortedNet, arXiv 2309.00255)."""

    def __init__(self, train: TrainSpec, space: SearchSpace) -> None:
        super().__init__(train, space)
        self.count = min(train.draws, len(space))

    @classmethod
    def check(cls, train: TrainSpec, space: SearchSpace) -> None:
        if train.draws > len(space):
            raise RequestError(
                f"train.draws = {train.draws}: the search space has only {len(space)} sub-models"
            )

    @property
    def first(self) -> Rule:
        return WithLargest(self.train, self.space) if self.train.always_largest else self

    def draw(self, random: Random, progress: float = 1.0) -> list[Share]:
        indices = random.sample(range(len(self.space)), self.count)
        return equal_shares([self.space.submodels[i] for i in sorted(indices, reverse=True)])

    def draws(self, start: float = 0.0, end: float = 1.0) -> list[list[SubModel]]:
        if self.count == 1:
            return [[submodel] for submodel in self.space.submodels]
        return super().draws(start, end)

    def heaviest(self) -> list[Share]:
        return equal_shares(deepest(self.space, self.count))


class WithLargest(Sorted):
    """The largest sub-model in place of one draw; the others are uniform over all but it.

    The rule of the first micro-batch under `train.always_largest`.
    """

    @property
    def first(self) -> Rule:
        return self

    def draw(self, random: Random, progress: float = 1.0) -> list[Share]:
        *others, largest = self.space.submodels
        indices = random.sample(range(len(others)), self.count - 1)
        return equal_shares([largest, *(others[i] for i in sorted(indices, reverse=True))])

    def draws(self, start: float = 0.0, end: float = 1.0) -> list[list[SubModel]]:
        return [[self.space.largest]] if self.count == 1 else super().draws(start, end)
