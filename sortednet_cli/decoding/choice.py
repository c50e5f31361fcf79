"""From logits to tokens: the best one, or a drawn one; and whether a draft stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from sortednet_cli.errors import RequestError

_MARGIN = {torch.float32: 1e-4, torch.float64: 1e-10}
_COARSE_MARGIN = 2e-2
"""How close two logits may be, relative to the largest, before rounding could swap them. A
pass over several positions and one over a single position differ by some 1e-6 in float32."""


@dataclass(frozen=True)
class Draft:
    """A drafted token, the share that its exit gives it, and what it was drawn from.

    `probabilities` [V] is None where nothing is drawn.
    """

    token: int
    confidence: float
    probabilities: Tensor | None = None


@dataclass(frozen=True)
class Verdict:
    """How many drafts stand, and the token after them.

    `sure` is False where that token's place must be computed by itself.
    """

    accepted: int
    token: int
    sure: bool = True


class Chooser(Protocol):
    """Picks tokens; the seed of a drawn one is its own."""

    def pick(self, logits: Tensor) -> int:
        """Choose a token by logits [V]."""
        ...

    def draft(self, logits: Tensor) -> Draft:
        """Choose a token that `verify` will be asked about."""
        ...

    def verify(self, drafts: Sequence[Draft], logits: Tensor) -> Verdict:
        """Check drafts by the model's logits [len(drafts) + 1, V]."""
        ...

    def close(self, logits: Tensor) -> bool:
        """Whether rounding could change what is picked by logits [V], even from a single pass."""
        ...


class Greedy:
    """The token with the largest logit, the first of equals."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self._margin = _MARGIN.get(dtype, _COARSE_MARGIN)
        self._exact = dtype in _MARGIN

    def pick(self, logits: Tensor) -> int:
        return int(logits.argmax())

    def draft(self, logits: Tensor) -> Draft:
        share, token = logits.softmax(-1).max(-1)
        return Draft(int(token), float(share))

    def verify(self, drafts: Sequence[Draft], logits: Tensor) -> Verdict:
        values, indices = logits.topk(2)
        for place, ((best, second), (token, _)) in enumerate(
            zip(values.tolist(), indices.tolist(), strict=True)
        ):
            if best - second <= self._margin * max(1.0, abs(best)):
                return Verdict(place, token, sure=False)
            if place == len(drafts) or token != drafts[place].token:
                return Verdict(place, token)
        raise AssertionError("the last row has no draft")

    def close(self, logits: Tensor) -> bool:
        best, second = logits.topk(2).values.tolist()
        return self._exact and best - second <= self._margin / 10 * max(1.0, abs(best))


class Sampling:
    """A token drawn by temperature and nucleus (arXiv 1904.09751).

    Args:
        temperature: divides the logits; positive.
        top_p: share of the likeliest tokens that are drawn from, in (0, 1].
        seed: of the drawing.

    Raises:
        RequestError: a value is out of range.
    """

    def __init__(self, temperature: float = 1.0, top_p: float = 1.0, seed: int = 0) -> None:
        if not 0 < temperature < float("inf"):
            raise RequestError(f"a temperature is positive, not {temperature:g}")
        if not 0 < top_p <= 1:
            raise RequestError(f"top-p is above 0 and at most 1, not {top_p:g}")
        self._temperature = temperature
        self._top_p = top_p
        self._generator = Generator().manual_seed(seed)

    def probabilities(self, logits: Tensor) -> Tensor:
        """What tokens are drawn from, [..., V] on the CPU."""
        shares = (logits.float() / self._temperature).softmax(-1).cpu()
        if self._top_p < 1:
            ordered, order = shares.sort(-1, descending=True)
            # A token stays while those before it hold less than top_p: one always does.
            ordered[ordered.cumsum(-1) - ordered >= self._top_p] = 0
            shares = torch.zeros_like(shares).scatter_(-1, order, ordered)
            shares = shares / shares.sum(-1, keepdim=True)
        return shares

    def pick(self, logits: Tensor) -> int:
        return self._drawn(self.probabilities(logits))

    def draft(self, logits: Tensor) -> Draft:
        shares = self.probabilities(logits)
        token = self._drawn(shares)
        return Draft(token, float(shares[token]), shares)

    def verify(self, drafts: Sequence[Draft], logits: Tensor) -> Verdict:
        """Keep each draft with probability p / q, else draw from what p has above q.

        Then every token is distributed as p, the model's own (arXiv 2211.17192, appendix A.1).
        """
        target = self.probabilities(logits)
        for place, draft in enumerate(drafts):
            assert draft.probabilities is not None
            p, q = target[place], draft.probabilities
            if float(torch.rand((), generator=self._generator) * q[draft.token]) >= float(
                p[draft.token]
            ):
                rest = (p - q).clamp_min(0)
                return Verdict(place, self._drawn(rest if float(rest.sum()) > 0 else p))
        return Verdict(len(drafts), self._drawn(target[-1]))

    def close(self, logits: Tensor) -> bool:
        return False

    def _drawn(self, weights: Tensor) -> int:
        return int(torch.multinomial(weights, 1, generator=self._generator))
