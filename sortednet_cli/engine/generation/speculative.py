"""Self-speculative decoding: the first layers draft, and one pass of the others verifies.

The drafting layers are a prefix of the model and share its cache and states, so verification runs
only the layers above them. The output equals that of plain decoding token for token, greedy or
sampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Protocol

from sortednet_cli.engine.generation.choice import Chooser, Draft, Verdict
from sortednet_cli.engine.generation.stack import Stack
from sortednet_cli.engine.generation.statistics import DecodingStats
from sortednet_cli.engine.generation.timings import MAX_ROWS, LayerTimings


class DraftLength(Protocol):
    """Decides how many tokens to draft before they are verified."""

    def begin(self) -> None:
        """Start a round."""
        ...

    def wants_more(self, drafted: int) -> bool:
        """Whether to draft one more token after `drafted` of them."""
        ...

    def keep(self, drafted: int, confidence: float | None) -> bool:
        """Whether to have a token verified, as draft number `drafted` + 1.

        Args:
            confidence: None if nobody has looked at it yet.
        """
        ...

    def observe(self, confidence: float, accepted: bool) -> None:
        """Record whether a verified draft was accepted."""
        ...

    def finish(self, drafted: int, gained: int) -> None:
        """Record how many tokens a round produced."""
        ...


class Fixed:
    """Drafts the same number of tokens in every round."""

    def __init__(self, length: int) -> None:
        self._length = length

    def begin(self) -> None: ...

    def wants_more(self, drafted: int) -> bool:
        return drafted < self._length

    def keep(self, drafted: int, confidence: float | None) -> bool:
        return True

    def observe(self, confidence: float, accepted: bool) -> None: ...

    def finish(self, drafted: int, gained: int) -> None: ...


class AcceptanceEstimate:
    """Estimates how often drafts of a given confidence are accepted.

    The prior is the confidence itself. Old observations decay, so the estimate follows the text.
    """

    _EDGES = (0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.88, 0.94, 0.98)
    _PRIOR = 4.0
    _DECAY = 0.98

    def __init__(self) -> None:
        bounds = (0.0, *self._EDGES, 1.0)
        middles = [(low + high) / 2 for low, high in pairwise(bounds)]
        self._weight = [self._PRIOR] * len(middles)
        self._accepted = [self._PRIOR * middle for middle in middles]
        self.mean = 0.6

    def probability(self, confidence: float | None) -> float:
        """Estimate the probability that a draft is accepted, by default of any."""
        if confidence is None:
            return self.mean
        index = self._bin(confidence)
        return self._accepted[index] / self._weight[index]

    def observe(self, confidence: float, accepted: bool) -> None:
        index = self._bin(confidence)
        self._weight[index] = self._weight[index] * self._DECAY + 1
        self._accepted[index] = self._accepted[index] * self._DECAY + accepted
        self.mean += (accepted - self.mean) * (1 - self._DECAY)

    def _bin(self, confidence: float) -> int:
        return sum(edge < confidence for edge in self._EDGES)


class Adaptive:
    """Keeps drafting while the expected gain in tokens exceeds the cost of the time it takes.

    Time is priced at the recent rate of tokens per second. That choice maximises the rate over a
    long text (optimal stopping of a renewal process).

    Args:
        timings: measured times.
        draft_depth: layers that draft.
        depth: layers of the model.
    """

    _DECAY = 0.95

    def __init__(self, timings: LayerTimings, draft_depth: int, depth: int) -> None:
        self._draft = draft_depth * timings.layer[1]
        self._head = timings.draft_head
        above = depth - draft_depth
        self._verify = [
            above * layer + head for layer, head in zip(timings.layer, timings.head, strict=True)
        ]
        self.acceptance = AcceptanceEstimate()
        self._tokens, self._seconds = 1.0, timings.step(depth)
        self._survival = 1.0

    @property
    def rate(self) -> float:
        """Tokens per second in recent rounds, by the measured times."""
        return self._tokens / self._seconds

    def begin(self) -> None:
        self._survival = 1.0

    def wants_more(self, drafted: int) -> bool:
        expected = self._survival * self.acceptance.mean
        return self._gain(expected, drafted + 1, self._head) > 0

    def keep(self, drafted: int, confidence: float | None) -> bool:
        self._survival *= self.acceptance.probability(confidence)
        return self._gain(self._survival, drafted + 1, 0.0) > 0

    def observe(self, confidence: float, accepted: bool) -> None:
        self.acceptance.observe(confidence, accepted)

    def finish(self, drafted: int, gained: int) -> None:
        spent = (drafted + 1) * (self._draft + self._head) + self._verify[drafted + 1]
        self._tokens = self._tokens * self._DECAY + gained
        self._seconds = self._seconds * self._DECAY + spent

    def _gain(self, survival: float, rows: int, cost: float) -> float:
        """Compute the net gain, in tokens, of the best number of rows beyond `rows`."""
        rate = self.rate
        best, expected, base = -1.0, 0.0, self._verify[min(rows, MAX_ROWS)]
        for more in range(rows + 1, MAX_ROWS + 1):
            expected += survival
            cost += self._draft
            best = max(best, expected - rate * (cost + self._verify[more] - base))
            cost += self._head
            survival *= self.acceptance.mean
        return best


class Speculative:
    """Drafts with the first `depth` layers and verifies with the layers above.

    Args:
        depth: number of layers that draft; below the model's depth.
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
        """Draft and verify once.

        Args:
            prompt: number of positions before the first token of `generated`.
            generated: all tokens after the prompt; the last has no position yet.
            wanted: most tokens that the caller takes after the first of `generated`.

        Returns:
            The next tokens, at least one.
        """
        start = stack.length
        drafts = self._draft(stack, generated[-1], chooser, wanted - len(generated))
        stack.advance(stack.depth)
        stats.passes += 1
        verdict = chooser.verify(drafts, stack.logits(len(drafts) + 1), start + 1)
        self._count(verdict, stats)
        stack.truncate(start + verdict.accepted + 1)
        if verdict.sure:
            return [*verdict.kept, verdict.token]
        token = _recompute(stack, prompt, [*generated, *verdict.kept], chooser, stats)
        stats.changed += token != verdict.token
        return [*verdict.kept, token]

    def _draft(self, stack: Stack, token: int, chooser: Chooser, room: int) -> list[Draft]:
        """Push a token and at most `room` drafts after it through the drafting layers."""
        length, drafts = self._length, list[Draft]()
        stack.push([token])
        stack.advance(self._depth)
        length.begin()
        while len(drafts) < room and length.wants_more(len(drafts)):
            draft = chooser.draft(stack.draft_logits(), stack.length)
            # Where a look waits for the device, all drafts are looked at when they are verified.
            confidence = None if stack.asynchronous else float(draft.confidence)
            if not length.keep(len(drafts), confidence):
                break
            stack.push(draft.token[None])
            stack.advance(self._depth)
            drafts.append(draft)
        return drafts

    def _count(self, verdict: Verdict, stats: DecodingStats) -> None:
        # Drafts after a rejected one, and an unsure one, were not verified.
        checked = verdict.confidences[: verdict.accepted + verdict.sure]
        for index, confidence in enumerate(checked):
            self._length.observe(confidence, index < verdict.accepted)
        drafted = len(verdict.confidences)
        self._length.finish(drafted, verdict.accepted + 1)
        stats.drafted += drafted
        stats.checked += len(checked)
        stats.accepted += verdict.accepted


def _recompute(
    stack: Stack, prompt: int, generated: list[int], chooser: Chooser, stats: DecodingStats
) -> int:
    """Pick the token after `generated` from passes over single positions.

    A pass over several positions rounds differently from a pass over one. If the two best tokens
    are closer than that difference, the last position is recomputed in a pass of its own. If they
    are still closer than the error that earlier joint passes may have left in the cache, every
    position is recomputed.
    """
    stats.recomputed += 1
    stack.truncate(stack.length - 1)
    stack.push(generated[-1:])
    stack.advance(stack.depth)
    chosen, is_near = chooser.settle(stack.logits(1)[0], stack.length)
    if not is_near:
        return chosen
    stats.replayed += 1
    stack.truncate(prompt)
    for token in generated:
        stack.push([token])
        stack.advance(stack.depth)
    return chooser.pick(stack.logits(1)[0], stack.length)
