"""How many tokens a round of speculative decoding drafts: a fixed number, or as many as pay."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

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
        draft_depth: layers that draft; 0 if drafts cost nothing, because they are looked up.
        depth: layers of the model.
    """

    _DECAY = 0.95

    def __init__(self, timings: LayerTimings, draft_depth: int, depth: int) -> None:
        self._draft = draft_depth * timings.layer[1]
        self._head = timings.draft_head if draft_depth else 0.0
        above = depth - draft_depth
        self._verify = [
            above * layer + head for layer, head in zip(timings.layer, timings.head, strict=True)
        ]
        self.acceptance = AcceptanceEstimate()
        self._tokens, self._seconds = 1.0, timings.step(depth)
        self.begin()

    @property
    def rate(self) -> float:
        """Tokens per second in recent rounds, by the measured times."""
        return self._tokens / self._seconds

    @property
    def expected_rate(self) -> float:
        """Tokens per second that this round is expected to make with the drafts kept so far."""
        return self._expected / self._spent(self._kept)

    def begin(self) -> None:
        self._survival, self._expected, self._kept = 1.0, 1.0, 0

    def wants_more(self, drafted: int) -> bool:
        if not self._draft:
            return True
        expected = self._survival * self.acceptance.mean
        return self._gain(expected, drafted + 1, self._head) > 0

    def keep(self, drafted: int, confidence: float | None) -> bool:
        self._survival *= self.acceptance.probability(confidence)
        if self._gain(self._survival, drafted + 1, 0.0) <= 0:
            return False
        self._expected += self._survival
        self._kept += 1
        return True

    def observe(self, confidence: float, accepted: bool) -> None:
        self.acceptance.observe(confidence, accepted)

    def finish(self, drafted: int, gained: int) -> None:
        self._tokens = self._tokens * self._DECAY + gained
        self._seconds = self._seconds * self._DECAY + self._spent(drafted)

    def _spent(self, drafted: int) -> float:
        """Compute the time of a round."""
        return (drafted + 1) * (self._draft + self._head) + self._verify[drafted + 1]

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
