"""How long layers and head take on this machine, for several positions at once."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from sortednet_cli.engine.generation.stack import Stack

MOST_ROWS = 16
_REPEATS = 7
_PAST = 64


@dataclass(frozen=True)
class LayerTimings:
    """Seconds by the number of positions; entry 0 is unused.

    Attributes:
        layer: one layer.
        head: the final norm, the head, and choosing.
    """

    layer: tuple[float, ...]
    head: tuple[float, ...]

    def step(self, depth: int) -> float:
        """One position through `depth` layers and the head."""
        return depth * self.layer[1] + self.head[1]

    @classmethod
    def measure(cls, stack: Stack) -> LayerTimings:
        """Time an empty stack, the median of a few repeats for each number of positions."""
        past = max(1, min(_PAST, stack.capacity - MOST_ROWS))
        most = min(MOST_ROWS, stack.capacity - past)
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

            layer.append(_median(run) / stack.depth)
            head.append(_median(choose))
        stack.truncate(0)
        # Where the context is too short for more positions, they are never asked for.
        missing = [math.inf] * (MOST_ROWS - most)
        return cls((*layer, *missing), (*head, *missing))


def _median(run: Callable[[], None]) -> float:
    run()
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
