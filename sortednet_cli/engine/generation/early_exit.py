"""Early exit: a token is taken from the first exit that is confident enough of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sortednet_cli.engine.generation.choice import Chooser
from sortednet_cli.engine.generation.stack import Stack
from sortednet_cli.engine.generation.statistics import DecodingStats


class EarlyExit:
    """Leaves at the first exit whose largest probability reaches its threshold.

    This is the softmax confidence measure of CALM (arXiv 2207.07061). Deeper layers process the
    positions that left early together with the next one that goes that deep.

    Args:
        thresholds: the least confidence to leave with, keyed by depth.
    """

    def __init__(self, thresholds: Mapping[int, float]) -> None:
        self._thresholds = sorted(thresholds.items())

    def tokens(
        self,
        stack: Stack,
        tokens: Sequence[int],
        chooser: Chooser,
        stats: DecodingStats,
        wanted: int,
    ) -> Iterator[int]:
        token = tokens[-1]
        while True:
            stack.push([token])
            for depth, threshold in self._thresholds:
                stack.advance(depth)
                chosen = chooser.pick_if(stack.logits(1)[0], stack.length, threshold)
                if chosen is not None:
                    break
            else:
                depth = stack.depth
                stack.advance(depth)
                chosen = chooser.pick(stack.logits(1)[0], stack.length)
                stats.passes += 1
            stats.exits[depth] += 1
            token = chosen
            yield token
