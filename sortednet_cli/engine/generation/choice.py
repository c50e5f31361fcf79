"""From logits to tokens: the best one, or a drawn one; and whether a draft stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from sortednet_cli.errors import RequestError
from sortednet_cli.seeds import stream_seed

_MARGIN = {torch.float32: 1e-4, torch.float64: 1e-10}
_COARSE_MARGIN = 2e-2
"""How close two logits may be, relative to the largest, before rounding could swap them. A
pass over several positions and one over a single position differ by some 1e-6 in float32."""

_KEPT_PLACES = 32
"""How many places' noise is kept: more than a round drafts."""


@dataclass(frozen=True)
class Draft:
    """A drafted token, and its share of the softmax over its exit's scores."""

    token: int
    confidence: float


@dataclass(frozen=True)
class Verdict:
    """How many drafts stand, and the token after them.

    `sure` is False where that token's place must be computed by itself.
    """

    accepted: int
    token: int
    sure: bool = True


class Chooser(Protocol):
    """Picks tokens. A place is the position that a token will have in its text, prompt included."""

    def pick(self, logits: Tensor, place: int) -> int:
        """Choose the token of a place by logits [V]."""
        ...

    def draft(self, logits: Tensor, place: int) -> Draft:
        """Choose a token that `verify` will be asked about."""
        ...

    def verify(self, drafts: Sequence[Draft], logits: Tensor, place: int) -> Verdict:
        """Check drafts, the first at `place`, by the model's logits [len(drafts) + 1, V]."""
        ...

    def close(self, logits: Tensor, place: int) -> bool:
        """Whether rounding could change what is picked by logits [V], even from a single pass."""
        ...


class Greedy:
    """The token with the largest score, the first of equals; a token's score is its logit.

    Args:
        dtype: of the model, which says how far rounding moves a logit.
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self._margin = _MARGIN.get(dtype, _COARSE_MARGIN)
        self._exact = dtype in _MARGIN

    def scores(self, logits: Tensor, place: int) -> Tensor:
        """Scores [rows, V] of logits [rows, V], the first row's token for `place`."""
        return logits

    def pick(self, logits: Tensor, place: int) -> int:
        return int(self.scores(logits[None], place).argmax())

    def draft(self, logits: Tensor, place: int) -> Draft:
        share, token = self.scores(logits[None], place)[0].softmax(-1).max(-1)
        return Draft(int(token), float(share))

    def verify(self, drafts: Sequence[Draft], logits: Tensor, place: int) -> Verdict:
        values, indices = self.scores(logits, place).topk(2)
        for row, ((best, second), (token, _)) in enumerate(
            zip(values.tolist(), indices.tolist(), strict=True)
        ):
            if best - second <= self._margin * max(1.0, abs(best)):
                return Verdict(row, token, sure=False)
            if row == len(drafts) or token != drafts[row].token:
                return Verdict(row, token)
        raise AssertionError("the last row has no draft")

    def close(self, logits: Tensor, place: int) -> bool:
        best, second = self.scores(logits[None], place)[0].topk(2).values.tolist()
        return self._exact and best - second <= self._margin / 10 * max(1.0, abs(best))


class Sampling(Greedy):
    """A token drawn by temperature and nucleus (arXiv 1904.09751).

    The score of a token is its logit over the temperature plus noise of a Gumbel distribution: the
    largest then falls on each token with its probability. The noise is a function of the seed and
    the place alone, so a draft meets the same noise as its check: both agree more often than two
    drawings would, and whatever drafted, the text is the one that the whole model draws by itself
    (arXiv 2408.07978).

    Args:
        temperature: divides the logits; positive.
        top_p: share of the likeliest tokens that are drawn from, in (0, 1].
        seed: of the drawing; another text wants another one.
        dtype: of the model, as for `Greedy`.

    Raises:
        RequestError: a value is out of range.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(dtype)
        if not 0 < temperature < float("inf"):
            raise RequestError(f"a temperature is positive, not {temperature:g}")
        if not 0 < top_p <= 1:
            raise RequestError(f"top-p is above 0 and at most 1, not {top_p:g}")
        self._temperature = temperature
        self._top_p = top_p
        self._seed = seed
        self._noise: dict[int, Tensor] = {}

    def scores(self, logits: Tensor, place: int) -> Tensor:
        scaled = self._scaled(logits)
        return scaled + torch.stack(
            [self._noise_of(place + row, scaled.shape[-1]) for row in range(len(scaled))]
        )

    def probabilities(self, logits: Tensor) -> Tensor:
        """What tokens are drawn from, [..., V] on the CPU."""
        return self._scaled(logits).softmax(-1)

    def _scaled(self, logits: Tensor) -> Tensor:
        """Logits over the temperature on the CPU, minus infinity outside of the nucleus."""
        scaled = logits.cpu().double() / self._temperature
        if self._top_p < 1:
            ordered, order = scaled.softmax(-1).sort(-1, descending=True)
            # A token stays while those before it hold less than top_p: one always does.
            outside = ordered.cumsum(-1) - ordered >= self._top_p
            scaled = scaled.masked_fill(outside.scatter(-1, order, outside), -torch.inf)
        return scaled

    def _noise_of(self, place: int, count: int) -> Tensor:
        """Gumbel noise of a place, which its draft and its check both ask for."""
        if place not in self._noise:
            if len(self._noise) >= _KEPT_PLACES:
                self._noise.clear()
            generator = Generator().manual_seed(stream_seed(self._seed, "place", place))
            drawn = torch.empty(count, dtype=torch.float64).exponential_(generator=generator)
            self._noise[place] = drawn.log_().neg_()
        return self._noise[place]
