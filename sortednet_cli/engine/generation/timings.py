"""Measurement of the time that layers and head take, for one or more positions per pass."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from sortednet_cli.engine.generation.stack import Stack

MAX_ROWS = 16
"""Most positions in a pass that is timed."""

_REPEATS = 7
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
        """Time an empty stack, by the median of several repeats for each number of positions."""
        past = max(1, min(_PAST, stack.capacity - MAX_ROWS))
        most = min(MAX_ROWS, stack.capacity - past)
        stack.push([0] * past)
        stack.advance(stack.depth)
        stack.wait()
        layer, head = [0.0], [0.0]
        for rows in range(1, most + 1):
            tokens = [0] * rows

            def run(tokens: list[int] = tokens) -> None:
                stack.truncate(past)
                stack.push(tokens)
                stack.advance(stack.depth)
                stack.wait()

            def choose(rows: int = rows) -> None:
                stack.logits(rows).topk(2).values.tolist()

            layer.append(_median(run, clock) / stack.depth)
            head.append(_median(choose, clock))
        draft_head = _median(lambda: stack.draft_logits().max().item(), clock)
        stack.truncate(0)
        # A shorter context never needs the times of more positions.
        missing = [math.inf] * (MAX_ROWS - most)
        return cls((*layer, *missing), (*head, *missing), draft_head)


def _median(run: Callable[[], object], clock: Callable[[], float]) -> float:
    run()
    seconds = []
    for _ in range(_REPEATS):
        start = clock()
        run()
        seconds.append(clock() - start)
    return statistics.median(seconds)
