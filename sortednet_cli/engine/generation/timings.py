"""Measurement of the time that layers and head take, for one or more positions per pass."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sortednet_cli.engine.generation.stack import Stack

MAX_ROWS = 16
"""Most positions in a pass that is timed."""

_TIMED = (1, 2, 3, 4, 6, 8, 12, MAX_ROWS)
"""Numbers of positions that are timed; what lies between is interpolated."""

_LEAST, _REPEATS = 3, 7
_ENOUGH = 0.1
"""Seconds after which one number of positions is not repeated again: long passes vary little."""

_PAST = 64


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
    def measure(cls, stack: Stack, clock: Callable[[], float] = time.perf_counter) -> LayerTimings:
        """Time an empty stack.

        The fastest of several repeats counts, because whatever else the machine does only adds to
        one. A model that takes long for a pass has few of them, so that this ends before a short
        text would.
        """
        past = max(1, min(_PAST, stack.capacity - MAX_ROWS))
        most = min(MAX_ROWS, stack.capacity - past)
        stack.push([0] * past)
        stack.advance(stack.depth)
        stack.wait()
        layer, head = dict[int, float](), dict[int, float]()
        for rows in sorted({most, *(rows for rows in _TIMED if rows < most)}):
            tokens = [0] * rows

            def run(tokens: list[int] = tokens) -> None:
                stack.truncate(past)
                stack.push(tokens)
                stack.advance(stack.depth)
                stack.wait()

            def choose(rows: int = rows) -> None:
                stack.logits(rows).topk(2).values.tolist()

            layer[rows] = _fastest(run, clock) / stack.depth
            head[rows] = _fastest(choose, clock)
        draft_head = _fastest(lambda: stack.draft_logits().max().item(), clock)
        stack.truncate(0)
        return cls(_by_rows(layer), _by_rows(head), draft_head)


def _fastest(run: Callable[[], object], clock: Callable[[], float]) -> float:
    seconds: list[float] = []
    while len(seconds) < _LEAST or (len(seconds) < _REPEATS and sum(seconds) < _ENOUGH):
        start = clock()
        run()
        seconds.append(clock() - start)
    return min(seconds)


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
