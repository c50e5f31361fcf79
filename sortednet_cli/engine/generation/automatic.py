"""Speculative decoding that finds the best draft depth while it decodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sortednet_cli.engine.generation.choice import Chooser
from sortednet_cli.engine.generation.speculative import Adaptive, Speculative
from sortednet_cli.engine.generation.stack import Stack
from sortednet_cli.engine.generation.statistics import DecodingStats
from sortednet_cli.engine.generation.timings import LayerTimings

_TRIAL_ROUNDS = 8


class Automatic:
    """Tries the exits from the shallowest up, some rounds each, until one is slower than the last.

    A deeper exit agrees more often but costs more, so the rate of tokens rises up to the best
    depth and falls after it. A trial is an ordinary round: no token is generated twice. After the
    trials, the exit with the best recent rate drafts. The estimates are kept for later prompts.

    Args:
        timings: measured times.
        exits: depths that can draft, ascending.
        depth: layers of the model.
    """

    def __init__(self, timings: LayerTimings, exits: Sequence[int], depth: int) -> None:
        self._lengths = {d: Adaptive(timings, d, depth) for d in exits}
        self._strategies = {d: Speculative(d, length) for d, length in self._lengths.items()}
        self._untried = list(exits)
        self._tried: list[int] = []
        self._rounds = 0

    @property
    def depth(self) -> int:
        """The exit that drafts in the next round."""
        if self._rounds or not self._tried:
            return self._untried[0]
        return max(self._tried, key=lambda depth: self._lengths[depth].rate)

    def tokens(
        self, stack: Stack, token: int, chooser: Chooser, stats: DecodingStats, wanted: int
    ) -> Iterator[int]:
        prompt, generated = stack.length, [token]
        while True:
            strategy = self._strategies[self.depth]
            new = strategy.round(stack, prompt, generated, chooser, stats, wanted)
            self._count_trial()
            generated += new
            yield from new

    def _count_trial(self) -> None:
        """Count a trial round; after enough of them, try the next exit or end the trials."""
        if not self._untried:
            return
        self._rounds += 1
        if self._rounds < _TRIAL_ROUNDS:
            return
        self._tried.append(self._untried.pop(0))
        rates = [self._lengths[depth].rate for depth in self._tried[-2:]]
        if rates[-1] < rates[0]:
            self._untried = []
        self._rounds = int(bool(self._untried))
