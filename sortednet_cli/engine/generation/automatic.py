"""Speculative decoding that finds what drafts best while it decodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sortednet_cli.engine.generation.choice import Chooser
from sortednet_cli.engine.generation.draft_length import Adaptive
from sortednet_cli.engine.generation.history import History
from sortednet_cli.engine.generation.look_up import LookUp
from sortednet_cli.engine.generation.speculative import Speculative
from sortednet_cli.engine.generation.stack import Stack
from sortednet_cli.engine.generation.statistics import DecodingStats
from sortednet_cli.engine.generation.timings import LayerTimings
from sortednet_cli.logs import logger
from sortednet_cli.storage.phrases import Continuations

_TRIAL_ROUNDS = 8

_MOST_TRIED = 6
"""Exits that are tried at most: a stock checkpoint has one after every layer."""


class Automatic:
    """Looks drafts up where that is expected to pay most; else drafts by the exit that pays most.

    Exits are tried from the shallowest up, some rounds each, until one is slower than the last. A
    deeper exit agrees more often but costs more, so the rate of tokens rises up to the best depth
    and falls after it. A trial is an ordinary round: no token is generated twice. After the
    trials, the exit with the best recent rate drafts, unless all are slower than decoding without
    drafts. The estimates are kept for later prompts.

    Args:
        timings: measured times.
        exits: depths that can draft, ascending; perhaps none.
        depth: layers of the model.
        known: what follows phrases of the training texts; none if nothing is known.
    """

    def __init__(
        self,
        timings: LayerTimings,
        exits: Sequence[int],
        depth: int,
        known: Continuations | None = None,
    ) -> None:
        step = max(1, -(-len(exits) // _MOST_TRIED))
        self._untried = list(exits)[step - 1 :: step]
        self._lengths = {d: Adaptive(timings, d, depth) for d in self._untried}
        self._strategies = {d: Speculative(d, length) for d, length in self._lengths.items()}
        self._copied = Adaptive(timings, 0, depth)
        self._look_up = LookUp(self._copied, known)
        self._rate = 1 / timings.step(depth)
        self._tried: list[int] = []
        self._rounds = 0

    @property
    def depth(self) -> int | None:
        """The exit that drafts in the next round that looks nothing up; None if no exit pays."""
        if self._untried:
            return self._untried[0]
        best = max(self._tried, key=lambda depth: self._lengths[depth].rate, default=None)
        return None if best is None or self._lengths[best].rate <= self._rate else best

    def tokens(
        self,
        stack: Stack,
        tokens: Sequence[int],
        chooser: Chooser,
        stats: DecodingStats,
        wanted: int,
    ) -> Iterator[int]:
        history = History(tokens, wanted)
        while True:
            depth = self.depth
            if depth is None or self._looks_up(history, depth):
                # Without drafts too, as plain decoding would not settle ties that joint passes
                # left in the cache.
                new = self._look_up.round(stack, history, chooser, stats)
            else:
                new = self._strategies[depth].round(stack, history, chooser, stats)
                self._look_up.learn(history, new)
                self._count_trial()
            history.extend(new)
            yield from new

    def _looks_up(self, history: History, depth: int) -> bool:
        """Whether a look-up is expected to be faster than drafts of an exit."""
        rate = max(self._rate, self._lengths[depth].rate)
        return bool(self._look_up.drafts(history)) and self._copied.expected_rate > rate

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
        self._rounds = 0
        if not self._untried and self.depth is None:
            best = max(self._lengths[depth].rate for depth in self._tried)
            logger.info(
                "no exit pays as a draft: the best would reach %.2f of the speed without drafts",
                best / self._rate,
            )
