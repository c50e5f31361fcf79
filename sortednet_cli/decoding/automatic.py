"""Speculation that finds its own draft depth from a few tokens and measured times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sortednet_cli.decoding.choice import Chooser
from sortednet_cli.decoding.pace import MOST_ROWS, Pace
from sortednet_cli.decoding.plain import Plain
from sortednet_cli.decoding.speculative import Adaptive, Speculative
from sortednet_cli.decoding.stack import Stack
from sortednet_cli.decoding.strategy import Strategy
from sortednet_cli.decoding.tally import Tally

_SURVEYED = 32


@dataclass(frozen=True)
class Expectation:
    """What drafting `length` tokens with `depth` layers should give; length 0 is plain."""

    depth: int
    length: int
    tokens_per_second: float


def expect(pace: Pace, depth: int, acceptance: dict[int, float]) -> Expectation:
    """The best draft depth and fixed length, by times and by acceptance at each depth.

    With acceptance a, k drafts give (1 - a^(k+1)) / (1 - a) tokens (arXiv 2211.17192).
    """
    best = Expectation(depth, 0, 1 / pace.step(depth))
    for exit_depth, share in acceptance.items():
        for length in range(1, MOST_ROWS):
            tokens = sum(share**i for i in range(length + 1))
            rows = length + 1
            seconds = (
                rows * exit_depth * pace.layer[1]
                + length * pace.head[1]
                + (depth - exit_depth) * pace.layer[rows]
                + pace.head[rows]
            )
            if tokens / seconds > best.tokens_per_second:
                best = Expectation(exit_depth, length, tokens / seconds)
    return best


class Automatic:
    """Decodes plainly while it learns how often each exit agrees, then drafts with the best.

    What it learnt stays for the prompts after.
    """

    def __init__(self, pace: Pace, exits: Sequence[int]) -> None:
        self._pace = pace
        self._right = dict.fromkeys(exits, 0)
        self._surveyed = 0
        self._settled: Strategy | None = None
        self.expectation: Expectation | None = None

    def tokens(
        self, stack: Stack, token: int, chooser: Chooser, tally: Tally, wanted: int
    ) -> Iterator[int]:
        while self._surveyed < _SURVEYED:
            token = self._survey(stack, token, chooser, tally)
            wanted -= 1
            yield token
        if self._settled is None:
            self._settled = self._settle(stack.depth)
        yield from self._settled.tokens(stack, token, chooser, tally, wanted)

    def _survey(self, stack: Stack, token: int, chooser: Chooser, tally: Tally) -> int:
        stack.push([token])
        guesses = {}
        for depth in self._right:
            stack.advance(depth)
            guesses[depth] = int(stack.logits(1)[0].argmax())
        stack.advance(stack.depth)
        tally.passes += 1
        logits = stack.logits(1)[0]
        best = int(logits.argmax())
        for depth, guess in guesses.items():
            self._right[depth] += guess == best
        self._surveyed += 1
        return chooser.pick(logits)

    def _settle(self, depth: int) -> Strategy:
        # One right and one wrong beside what was seen: certainty is not in so few tokens.
        shares = {d: (right + 1) / (self._surveyed + 2) for d, right in self._right.items()}
        self.expectation = expect(self._pace, depth, shares)
        if not self.expectation.length:
            return Plain()
        chosen = self.expectation.depth
        return Speculative(chosen, Adaptive(self._pace, chosen, depth))
