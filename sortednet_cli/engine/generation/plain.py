"""Plain decoding: every token goes through every layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sortednet_cli.engine.generation.choice import Chooser
from sortednet_cli.engine.generation.stack import Stack
from sortednet_cli.engine.generation.statistics import DecodingStats


class Plain:
    """One pass through all layers for each token."""

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
            stack.advance(stack.depth)
            stats.passes += 1
            token = chooser.pick(stack.logits(1)[0], stack.length)
            yield token
