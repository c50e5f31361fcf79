"""Self-speculation: the first layers draft, the others check all drafts by one pass.

The draft is a prefix of the model, so its cache and its states are the model's own: checking
runs the layers above it alone. Output is that of plain decoding, token for token, drawn or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Protocol

from sortednet_cli.engine.generation.choice import Chooser, Draft, Verdict
from sortednet_cli.engine.generation.stack import Stack
from sortednet_cli.engine.generation.statistics import DecodingStats
from sortednet_cli.engine.generation.timings import MOST_ROWS, LayerTimings


class DraftLength(Protocol):
    """Decides how many tokens to draft before checking."""

    def begin(self) -> None:
        """Start a round."""
        ...

    def drafts_on(self, drafted: int) -> bool:
        """Whether to draft one more token after `drafted` of them."""
        ...

    def keeps(self, drafted: int, confidence: float) -> bool:
        """Whether to take a token into the check as draft number `drafted` + 1."""
        ...

    def learn(self, confidence: float, accepted: bool) -> None:
        """Hear of a draft that was checked."""
        ...

    def finish(self, drafted: int, gained: int) -> None:
        """Hear how many tokens a round gained."""
        ...


class Fixed:
    """Always the same number of drafts."""

    def __init__(self, length: int) -> None:
        self._length = length

    def begin(self) -> None: ...

    def drafts_on(self, drafted: int) -> bool:
        return drafted < self._length

    def keeps(self, drafted: int, confidence: float) -> bool:
        return True

    def learn(self, confidence: float, accepted: bool) -> None: ...

    def finish(self, drafted: int, gained: int) -> None: ...


class Belief:
    """How often drafts of a confidence are accepted, learnt as they are checked.

    Starts from the confidence itself and forgets slowly, so that it follows the text.
    """

    _EDGES = (0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.88, 0.94, 0.98)
    _PRIOR = 4.0
    _KEPT = 0.98

    def __init__(self) -> None:
        bounds = (0.0, *self._EDGES, 1.0)
        middles = [(low + high) / 2 for low, high in pairwise(bounds)]
        self._weight = [self._PRIOR] * len(middles)
        self._right = [self._PRIOR * middle for middle in middles]
        self.mean = 0.6

    def of(self, confidence: float) -> float:
        place = self._place(confidence)
        return self._right[place] / self._weight[place]

    def learn(self, confidence: float, accepted: bool) -> None:
        place = self._place(confidence)
        self._weight[place] = self._weight[place] * self._KEPT + 1
        self._right[place] = self._right[place] * self._KEPT + accepted
        self.mean += (accepted - self.mean) * (1 - self._KEPT)

    def _place(self, confidence: float) -> int:
        return sum(edge < confidence for edge in self._EDGES)


class Adaptive:
    """Drafts on while that is expected to gain more tokens than its time earns elsewhere.

    The price of time is the rate of tokens that rounds have had so far, which makes the
    choice the best one for a long text (a renewal process's optimal stopping).

    Args:
        timings: measured times.
        draft_depth: layers that draft.
        depth: layers of the model.
    """

    _KEPT = 0.95

    def __init__(self, timings: LayerTimings, draft_depth: int, depth: int) -> None:
        self._draft = draft_depth * timings.layer[1]
        self._head = timings.head[1]
        above = depth - draft_depth
        self._check = [
            above * layer + head for layer, head in zip(timings.layer, timings.head, strict=True)
        ]
        self.belief = Belief()
        self._tokens, self._seconds = 1.0, timings.step(depth)
        self._survival = 1.0

    @property
    def rate(self) -> float:
        """Tokens a second that rounds have had lately, by the measured times."""
        return self._tokens / self._seconds

    def begin(self) -> None:
        self._survival = 1.0

    def drafts_on(self, drafted: int) -> bool:
        expected = self._survival * self.belief.mean
        return self._gain(expected, drafted + 1, self._head) > 0

    def keeps(self, drafted: int, confidence: float) -> bool:
        self._survival *= self.belief.of(confidence)
        return self._gain(self._survival, drafted + 1, 0.0) > 0

    def learn(self, confidence: float, accepted: bool) -> None:
        self.belief.learn(confidence, accepted)

    def finish(self, drafted: int, gained: int) -> None:
        spent = (drafted + 1) * (self._draft + self._head) + self._check[drafted + 1]
        self._tokens = self._tokens * self._KEPT + gained
        self._seconds = self._seconds * self._KEPT + spent

    def _gain(self, survival: float, rows: int, cost: float) -> float:
        """What the best number of further rows is worth in tokens, beyond `rows` of them."""
        rate = self.rate
        best, expected, base = -1.0, 0.0, self._check[min(rows, MOST_ROWS)]
        for more in range(rows + 1, MOST_ROWS + 1):
            expected += survival
            cost += self._draft
            best = max(best, expected - rate * (cost + self._check[more] - base))
            cost += self._head
            survival *= self.belief.mean
        return best


class Speculative:
    """Drafts with the first `depth` layers, and checks with the rest.

    Args:
        depth: layers that draft; below the model's own.
        length: decides how many tokens to draft.
    """

    def __init__(self, depth: int, length: DraftLength) -> None:
        self._depth = depth
        self._length = length

    def tokens(
        self, stack: Stack, token: int, chooser: Chooser, stats: DecodingStats, wanted: int
    ) -> Iterator[int]:
        prompt, generated = stack.length, [token]
        while True:
            new = self.round(stack, prompt, generated, chooser, stats, wanted)
            generated += new
            yield from new

    def round(
        self,
        stack: Stack,
        prompt: int,
        generated: list[int],
        chooser: Chooser,
        stats: DecodingStats,
        wanted: int,
    ) -> list[int]:
        """Draft and check once.

        Args:
            prompt: number of positions before the first of `generated`.
            generated: all tokens since; the last has no position yet.
            wanted: how many tokens after the first of `generated` will be taken at most.

        Returns:
            The next tokens, at least one.
        """
        start = stack.length
        drafts = self._draft(stack, generated[-1], chooser, wanted - len(generated))
        stack.advance(stack.depth)
        stats.passes += 1
        verdict = chooser.verify(drafts, stack.logits(len(drafts) + 1), start + 1)
        self._count(drafts, verdict, stats)
        stack.truncate(start + verdict.accepted + 1)
        kept = [draft.token for draft in drafts[: verdict.accepted]]
        if verdict.sure:
            return [*kept, verdict.token]
        token = _alone(stack, prompt, [*generated, *kept], chooser, stats)
        stats.changed += token != verdict.token
        return [*kept, token]

    def _draft(self, stack: Stack, token: int, chooser: Chooser, room: int) -> list[Draft]:
        """Push a token and drafts after it, all through the drafting layers; at most `room`."""
        length, drafts = self._length, list[Draft]()
        stack.push([token])
        stack.advance(self._depth)
        length.begin()
        while len(drafts) < room and length.drafts_on(len(drafts)):
            draft = chooser.draft(stack.logits(1)[0], stack.length)
            if not length.keeps(len(drafts), draft.confidence):
                break
            stack.push([draft.token])
            stack.advance(self._depth)
            drafts.append(draft)
        return drafts

    def _count(self, drafts: list[Draft], verdict: Verdict, stats: DecodingStats) -> None:
        checked = drafts[: verdict.accepted + verdict.sure]
        for place, draft in enumerate(checked):
            self._length.learn(draft.confidence, place < verdict.accepted)
        self._length.finish(len(drafts), verdict.accepted + 1)
        stats.drafted += len(drafts)
        stats.checked += len(checked)
        stats.accepted += verdict.accepted


def _alone(
    stack: Stack, prompt: int, generated: list[int], chooser: Chooser, stats: DecodingStats
) -> int:
    """Pick the token after `generated` by passes over single positions.

    Several positions in one pass round differently from one. Where the two best tokens are
    closer than that, the last position is computed again by itself; where they are still
    closer than what the cache of earlier joint passes may have left, every position is.
    """
    stats.recomputed += 1
    stack.truncate(stack.length - 1)
    stack.push(generated[-1:])
    stack.advance(stack.depth)
    logits = stack.logits(1)[0]
    if chooser.close(logits, stack.length):
        stats.replayed += 1
        stack.truncate(prompt)
        for token in generated:
            stack.push([token])
            stack.advance(stack.depth)
        logits = stack.logits(1)[0]
    return chooser.pick(logits, stack.length)
