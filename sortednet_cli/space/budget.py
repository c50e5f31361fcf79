"""Budgets: a bound on parameters, multiply-adds or latency, and what fits it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from sortednet_cli.errors import RequestError

Cost = Literal["params", "macs", "latency_ms"]

_SUFFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_COUNT = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:e[0-9]+)?)([kmg]?)", re.IGNORECASE)

Row = TypeVar("Row")


def parse_count(text: str) -> int:
    """Read `200k`, `1.5M`, `2G` or a plain number; RequestError otherwise."""
    match = _COUNT.fullmatch(text.strip())
    if match is None or not 0 < float(match[1]) < math.inf:
        raise RequestError(f"{text!r} is not a positive count; write 50000, 200k, 1.5M or 2G")
    return round(float(match[1]) * _SUFFIXES[match[2].lower()])


def format_count(value: float) -> str:
    """Write a count the way `parse_count` reads it, in three or four digits."""
    for suffix, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{value / scale:.4g}{suffix}"
    return f"{value:.4g}"


@dataclass(frozen=True)
class Budget:
    """The largest `cost` allowed."""

    cost: Cost
    limit: float

    def choose(self, rows: Sequence[tuple[Row, float, float]]) -> Row:
        """Pick the best row within the budget, the cheaper one of equals.

        Args:
            rows: (row, score with higher meaning better, cost).

        Raises:
            RequestError: nothing fits; the message says the smallest cost there is.
        """
        self.check([cost for _, _, cost in rows])
        fitting = [row for row in rows if row[2] <= self.limit]
        return max(fitting, key=lambda row: (row[1], -row[2]))[0]

    def check(self, costs: Sequence[float]) -> None:
        """RequestError unless one of the costs is within the budget."""
        if (least := min(costs)) > self.limit:
            raise RequestError(
                f"no sub-model fits {self.cost} <= {format_count(self.limit)};"
                f" the smallest has {format_count(least)}"
            )


def frontier(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Mark the points (score, cost) that no other beats on both (Pareto optimal).

    A point is off the frontier if another scores at least as well for at most its cost
    and is strictly better on one of the two.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][1], -points[i][0]))
    marks = [False] * len(points)
    best = (float("-inf"), float("-inf"))
    for i in order:
        score, cost = points[i]
        if score > best[0] or (score, cost) == best:
            marks[i] = True
            best = (score, cost)
    return marks
