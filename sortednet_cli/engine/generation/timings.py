"""Measurement of the time that layers and head take, for one or more positions per pass."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sortednet_cli.engine.generation.stack import Stack
from sortednet_cli.machine.clock import work_clock

MAX_ROWS = 16
"""Most positions in a pass that is timed."""

_TIMED = (1, 2, 3, 4, 6, 8, 12, MAX_ROWS)
"""Numbers of positions that are timed; what lies between is interpolated."""

_LEAST, _MOST, _ENOUGH = 3, 8, 0.5
"""Turns that are timed, and the seconds after which no more than the least are."""

_PAST = 64

TIMED_POSITIONS = _PAST + MAX_ROWS
"""Positions of the text that is timed, where the model has as many."""

_Work = Callable[[int], None]


@dataclass(frozen=True)
class LayerTimings:
    """Seconds by the number of positions in a pass; entry 0 is unused.

    Attributes:
        layer: time of one layer.
        head: time of the final norm, the head, and the choice of the token.
        draft_head: the same for a draft, one position.
    """

    layer: tuple[float, ...]
    head: tuple[float, ...]
    draft_head: float

    def step(self, depth: int) -> float:
        """Return the time of one position through `depth` layers and the head."""
        return depth * self.layer[1] + self.head[1]

    @classmethod
    def measure(cls, stack: Stack, clock: Callable[[], float] | None = None) -> LayerTimings:
        """Time an empty stack.

        All numbers of positions take turns, and the fastest turn of each counts: whatever else the
        machine does only adds to some. A model that takes long has few turns, so that this ends
        before a short text would.
        """
        clock = clock or work_clock(stack.device)
        past = max(1, min(_PAST, stack.capacity - MAX_ROWS))
        most = min(MAX_ROWS, stack.capacity - past)
        stack.push([0] * past)
        stack.advance(stack.depth)
        stack.wait()
        sizes = sorted({most, *(rows for rows in _TIMED if rows < most)})

        def run(rows: int) -> None:
            stack.truncate(past)
            stack.push([0] * rows)
            stack.advance(stack.depth)
            stack.wait()

        def choose(rows: int) -> None:
            stack.logits(rows).topk(2).values.tolist()

        def draft(rows: int) -> None:
            stack.draft_logits().max().item()

        seconds = _fastest([(work, rows) for rows in sizes for work in (run, choose, draft)], clock)
        stack.truncate(0)
        layer = {rows: seconds[run, rows] / stack.depth for rows in sizes}
        head = {rows: seconds[choose, rows] for rows in sizes}
        return cls(_by_rows(layer), _by_rows(head), min(seconds[draft, rows] for rows in sizes))


def _fastest(
    jobs: Sequence[tuple[_Work, int]], clock: Callable[[], float]
) -> dict[tuple[_Work, int], float]:
    """Return the seconds of each job's fastest turn."""
    fastest = dict.fromkeys(jobs, math.inf)
    spent, turns = 0.0, 0
    while turns < _LEAST or (turns < _MOST and spent < _ENOUGH):
        turns += 1
        for work, rows in jobs:
            start = clock()
            work(rows)
            seconds = clock() - start
            spent += seconds
            fastest[work, rows] = min(fastest[work, rows], seconds)
    return fastest


def _by_rows(timed: Mapping[int, float]) -> tuple[float, ...]:
    """Interpolate for the numbers of positions between those that were timed.

    More than the context holds are infinite: nothing ever needs them.
    """
    known = sorted(timed)
    times = [0.0]
    for rows in range(1, MAX_ROWS + 1):
        above = bisect_left(known, rows)
        if above == len(known):
            times.append(math.inf)
            continue
        high = known[above]
        low = known[max(0, above - 1)]
        share = (rows - low) / (high - low) if high > low else 0.0
        times.append(timed[low] + share * (timed[high] - timed[low]))
    return tuple(times)
