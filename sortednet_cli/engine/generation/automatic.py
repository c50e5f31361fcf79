"""Speculation that finds its own draft depth while it decodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sortednet_cli.engine.generation.choice import Chooser
from sortednet_cli.engine.generation.speculative import Adaptive, Speculative
from sortednet_cli.engine.generation.stack import Stack
from sortednet_cli.engine.generation.statistics import DecodingStats
from sortednet_cli.engine.generation.timings import LayerTimings

_TRIED = 8


class Automatic:
    """Tries exits from the shallowest on, a few rounds each, until one is slower than the last.

    A deeper exit agrees more often and costs more, so tokens a second rise to one best depth
    and fall behind it. Every trial is a round like any other: nothing is generated twice. From
    then on the exit with the best rate goes on, by the times and the acceptance it has had
    lately; what was learnt stays for the prompts after.

    Args:
        timings: measured times.
        exits: depths that can draft, ascending.
        depth: layers of the model.
    """

    def __init__(self, timings: LayerTimings, exits: Sequence[int], depth: int) -> None:
        self._lengths = {d: Adaptive(timings, d, depth) for d in exits}
        self._ways = {d: Speculative(d, length) for d, length in self._lengths.items()}
        self._untried = list(exits)
        self._tried: list[int] = []
        self._rounds = 0

    @property
    def depth(self) -> int:
        """The exit that drafts now."""
        if self._rounds or not self._tried:
            return self._untried[0]
        return max(self._tried, key=lambda depth: self._lengths[depth].rate)

    def tokens(
        self, stack: Stack, token: int, chooser: Chooser, stats: DecodingStats, wanted: int
    ) -> Iterator[int]:
        prompt, generated = stack.length, [token]
        while True:
            way = self._ways[self.depth]
            new = way.round(stack, prompt, generated, chooser, stats, wanted)
            self._try_on()
            generated += new
            yield from new

    def _try_on(self) -> None:
        """Count a round of the exit on trial; after enough of them go deeper or settle."""
        if not self._untried:
            return
        self._rounds += 1
        if self._rounds < _TRIED:
            return
        self._tried.append(self._untried.pop(0))
        rates = [self._lengths[depth].rate for depth in self._tried[-2:]]
        if rates[-1] < rates[0]:
            self._untried = []
        self._rounds = int(bool(self._untried))
