"""The rule `sandwich`: the largest and the smallest sub-model, and random ones between them."""

from __future__ import annotations

from random import Random
from typing import Literal

from sortednet_cli.rules.base import Rule, Share, deepest, equal_shares
from sortednet_cli.space.submodel import without_depth


class Sandwich(Rule):
    """The largest, the smallest and `train.num_random` others (US-Nets, arXiv 1903.05134)."""

    loss: Literal["mean", "sum"] = "sum"

    def draw(self, random: Random, progress: float = 1.0) -> list[Share]:
        between = self.space.submodels[1:-1]
        drawn = random.sample(between, min(self.train.num_random, len(between)))
        chosen = dict.fromkeys([self.space.largest, *drawn, self.space.smallest])
        return equal_shares(list(chosen))

    def heaviest(self) -> list[Share]:
        smallest, largest = self.space.smallest, self.space.largest
        both = smallest != largest and without_depth(smallest) == without_depth(largest)
        return equal_shares(deepest(self.space, 1 + self.train.num_random + both))
