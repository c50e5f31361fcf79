"""The ways to compute a product of few rows, and which of them is fastest on this processor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from sortednet_cli.machine.clock import Clock

Way = Literal["right", "parts", "left", "blocks", "packed"]
"""`right` is a stock linear layer; `parts` computes some dozens of outputs at a time, in one batch;
`left` has the weight on the left side. The others are oneDNN's: `blocks` lays the weight out in
blocks for each product, `packed` finds it so."""

WAYS: tuple[Way, ...] = ("right", "parts", "left", "blocks", "packed")
"""All of them. Of those that take about as long the first is taken; `packed` copies the weight."""

UNBLOCKED: tuple[Way, ...] = ("right", "parts", "left")
"""Those without oneDNN's blocks."""

_TIMED = (1, 2, 3, 4, 6, 8, 12, 16, 32, 96)
"""Numbers of rows that are timed. Those between go as the next one, and more as the last."""

MOST_ROWS = _TIMED[-1]

_GAIN = 1.1
"""A way is taken before one that precedes it if it is so many times as fast."""

_LEAST, _MOST, _ENOUGH = 4, 8, 0.3
"""Turns that are timed, and the seconds after which no more than the least are."""

_FIRST, _HOPELESS = 2, 1.5
"""After so many turns, a way that takes so many times as long as the fastest is timed no more."""


@dataclass(frozen=True)
class Ways:
    """The way to take by the number of rows; entry 0 is unused, and the last serves for more.

    Attributes:
        alone: with the weight as it is.
        beside: with a packed copy of the weight beside it.
    """

    alone: tuple[Way, ...]
    beside: tuple[Way, ...]

    @property
    def packs_from(self) -> float:
        """The fewest rows for which a packed copy is fastest; infinity if it never is."""
        return self.beside.index("packed") if "packed" in self.beside else math.inf

    @classmethod
    def measure(
        cls,
        run: Callable[[Way, int], object],
        ways: Sequence[Way],
        clock: Clock,
        most: int = MOST_ROWS,
    ) -> Ways:
        """Choose by time.

        All take turns, and the fastest turn of each counts: whatever else the machine does only
        adds to some. How a product is rounded depends on its way, so small differences in time,
        which come and go, must not decide.

        Args:
            run: computes products of so many rows in one way.
            ways: those to choose from, as they stand in `WAYS`.
            clock: in seconds.
            most: the most rows that are timed.
        """
        sizes = [rows for rows in _TIMED if rows <= most]
        jobs = [(way, rows) for rows in sizes for way in ways]
        fastest = dict.fromkeys(jobs, math.inf)
        for way in ways:  # which prepares what is made at the first call
            run(way, sizes[-1])

        def least(ways: Sequence[Way], rows: int) -> float:
            return min(fastest[way, rows] for way in ways)

        spent, turns = 0.0, 0
        while turns < _LEAST or (turns < _MOST and spent < _ENOUGH):
            if turns == _FIRST:
                jobs = [job for job in jobs if fastest[job] <= _HOPELESS * least(ways, job[1])]
            turns += 1
            for way, rows in jobs:
                start = clock()
                run(way, rows)
                seconds = clock() - start
                spent += seconds
                fastest[way, rows] = min(fastest[way, rows], seconds)

        def table(ways: Sequence[Way]) -> tuple[Way, ...]:
            chosen: list[Way] = []
            for rows in sizes:
                enough = _GAIN * least(ways, rows)
                best = next(way for way in ways if fastest[way, rows] <= enough)
                chosen += [best] * (rows + 1 - len(chosen))
            return tuple(chosen)

        return cls(table([way for way in ways if way != "packed"]), table(ways))


STOCK = Ways(alone=("right",), beside=("right",))
"""Stock linear layers for any number of rows."""
