"""The rules `sum` and `sandwich-sum`, which train every depth by one pass."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import ClassVar

from sortednet_cli.errors import RequestError
from sortednet_cli.rules.base import Rule, Share, equal_shares
from sortednet_cli.rules.sandwich import Sandwich
from sortednet_cli.rules.sorted import Sorted
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import TrainSpec


class EveryDepth(Rule):
    """Draws all depths of each point that an outer rule draws from the other axes.

    `train.depth_weights` are relative weights of the ascending depths, and
    `train.last_depth_weights` those that they turn into by the end. While the search space is only
    partly open, the open depths have the first of these weights. With `train.random_exits` a
    draw has the deepest and that many others; with equal weights, the drawn ones weigh as much as
    all others would (LayerSkip, arXiv 2404.16710, takes exits in turn).
    """

    outer_rule: ClassVar[type[Rule]]

    def __init__(self, train: TrainSpec, space: SearchSpace) -> None:
        super().__init__(train, space)
        axes = dict(space.axes)
        self.depths = axes.pop("depth")
        self.weights = self._shares(train.depth_weights or (1.0,) * len(self.depths))
        self.last_weights = self._shares(train.last_depth_weights or self.weights)
        most = len(self.depths) - 1
        self.num_others = most if train.random_exits is None else min(train.random_exits, most)
        self.outer = self.outer_rule(train, SearchSpace.of(axes)) if axes else None

    @classmethod
    def check(cls, train: TrainSpec, space: SearchSpace) -> None:
        depths = dict(space.axes).get("depth")
        if depths is None:
            raise RequestError(f"train.rule: the rule '{train.rule}' needs a depth axis in [space]")
        for key in ("depth_weights", "last_depth_weights"):
            weights = getattr(train, key)
            if weights is not None and len(weights) != len(depths):
                raise RequestError(f"train.{key}: {len(weights)} weights for {len(depths)} depths")

    def draw(self, random: Random, progress: float = 1.0) -> list[Share]:
        points: list[tuple[dict[str, int | float], float]] = [({}, 1.0)]
        if self.outer is not None:
            points = [(s.axes, weight) for s, weight in self.outer.draw(random, progress)]
        return [
            (SubModel.of({**axes, "depth": depth}), share * weight)
            for axes, share in points
            for depth, weight in self._exits(random, progress)
        ]

    def draws(self, start: float = 0.0, end: float = 1.0) -> list[list[SubModel]]:
        if self.outer is None and self.num_others == len(self.depths) - 1:
            return [[submodel for submodel, _ in self.draw(Random(0))]]
        return super().draws(start, end)

    def heaviest(self) -> list[Share]:
        largest = self.space.largest.axes
        depths = self.depths[::-1][: 1 + self.num_others]
        return equal_shares([SubModel.of({**largest, "depth": depth}) for depth in depths])

    def _shares(self, weights: Sequence[float]) -> list[float]:
        """Return the weights of the open depths, scaled to a sum of 1."""
        weights = weights[: len(self.depths)]
        return [weight / sum(weights) for weight in weights]

    def _exits(self, random: Random, progress: float) -> list[tuple[int | float, float]]:
        """Draw the depths of one point, the deepest first, with weights that sum to 1."""
        pairs = zip(self.weights, self.last_weights, strict=True)
        weights = [first + progress * (last - first) for first, last in pairs]
        *others, deepest = zip(self.depths, weights, strict=True)
        if self.num_others < len(others):
            factor = len(others) / self.num_others if self.num_others else 0.0
            drawn = sorted(random.sample(others, self.num_others))
            others = [(depth, weight * factor) for depth, weight in drawn]
        exits = [deepest, *others[::-1]]
        total = sum(weight for _, weight in exits)
        return [(depth, weight / total) for depth, weight in exits]


class Sum(EveryDepth):
    """All depths of one random point of the other axes (SoFT, arXiv 2309.08968)."""

    outer_rule = Sorted


class SandwichSum(EveryDepth):
    """All depths of a sandwich of the other axes."""

    outer_rule = Sandwich
