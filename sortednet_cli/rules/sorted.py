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

    def draw(self, random: Random, progress: float = 1.0) -> list[Share]:
        indices = random.sample(range(len(self.space)), self.count)
        return equal_shares([self.space.submodels[i] for i in sorted(indices, reverse=True)])

    def draws(self, start: float = 0.0, end: float = 1.0) -> list[list[SubModel]]:
        if self.count == 1:
            return [[submodel] for submodel in self.space.submodels]
        return super().draws(start, end)

    def heaviest(self) -> list[Share]:
        return equal_shares(deepest(self.space, self.count))
