"""The rule `single`: one sub-model alone."""

from __future__ import annotations

from random import Random

from sortednet_cli.errors import RequestError
from sortednet_cli.rules.base import Rule, Share
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import TrainSpec


class Single(Rule):
    """`train.submodel`, by default the largest: the baseline of all comparisons."""

    def __init__(self, train: TrainSpec, space: SearchSpace) -> None:
        super().__init__(train, space)
        self.submodel = space.named(train.submodel) if train.submodel else space.largest

    @classmethod
    def check(cls, train: TrainSpec, space: SearchSpace) -> None:
        if train.submodel is None:
            return
        try:
            space.named(train.submodel)
        except RequestError as error:
            raise RequestError(f"train.submodel: {error}") from error

    def draw(self, random: Random, progress: float = 1.0) -> list[Share]:
        return [(self.submodel, 1.0)]

    def draws(self, start: float = 0.0, end: float = 1.0) -> list[list[SubModel]]:
        return [[self.submodel]]

    def heaviest(self) -> list[Share]:
        return [(self.submodel, 1.0)]
