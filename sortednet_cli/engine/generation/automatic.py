"""Speculative decoding that finds the best draft depth while it decodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sortednet_cli.engine.generation.choice import Chooser
from sortednet_cli.engine.generation.speculative import Adaptive, Fixed, Speculative
from sortednet_cli.engine.generation.stack import Stack
from sortednet_cli.engine.generation.statistics import DecodingStats
from sortednet_cli.engine.generation.timings import LayerTimings
from sortednet_cli.logs import logger

_TRIAL_ROUNDS = 8

_MOST_TRIED = 6
"""Exits that are tried at most: a stock checkpoint has one after every layer."""


class Automatic:
    """Tries the exits from the shallowest up, some rounds each, until one is slower than the last.

    A deeper exit agrees more often but costs more, so the rate of tokens rises up to the best
    depth and falls after it. A trial is an ordinary round: no token is generated twice. After the
    trials, the exit with the best recent rate drafts, unless all are slower than decoding without
    drafts. The estimates are kept for later prompts.

    Args:
        timings: measured times.
        exits: depths that can draft, ascending.
        depth: layers of the model.
    """

    def __init__(self, timings: LayerTimings, exits: Sequence[int], depth: int) -> None:
        step = -(-len(exits) // _MOST_TRIED)
        self._untried = list(exits)[step - 1 :: step]
        self._lengths = {d: Adaptive(timings, d, depth) for d in self._untried}
        self._strategies = {d: Speculative(d, length) for d, length in self._lengths.items()}
        # Not plain decoding, which would not settle ties that joint passes left in the cache.
        self._without = Speculative(exits[0], Fixed(0))
        self._rate = 1 / timings.step(depth)
        self._tried: list[int] = []
        self._rounds = 0

    @property
    def depth(self) -> int | None:
        """The exit that drafts in the next round; None if drafts do not pay."""
        if self._rounds or not self._tried:
            return self._untried[0]
        best = max(self._tried, key=lambda depth: self._lengths[depth].rate)
        return best if self._lengths[best].rate > self._rate else None

    def tokens(
        self, stack: Stack, token: int, chooser: Chooser, stats: DecodingStats, wanted: int
    ) -> Iterator[int]:
        prompt, generated = stack.length, [token]
        while True:
            depth = self.depth
            strategy = self._without if depth is None else self._strategies[depth]
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
        if not self._untried and self.depth is None:
            best = max(self._lengths[depth].rate for depth in self._tried)
            logger.info(
                "no exit pays as a draft: the best would reach %.2f of the speed without drafts",
                best / self._rate,
            )
