"""Choice of tokens from logits, greedily or by sampling, and verification of drafted tokens."""

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
"""Relative difference of two logits below which rounding could swap them. In float32, a pass over
several positions and a pass over one differ by about 1e-6."""

_CACHED_POSITIONS = 32
"""Number of positions whose noise is cached: more than one round drafts."""


@dataclass(frozen=True)
class Draft:
    """A drafted token and its probability at the exit that drafted it."""

    token: int
    confidence: float


@dataclass(frozen=True)
class Verdict:
    """The result of verifying drafts.

    Attributes:
        accepted: number of accepted drafts.
        token: the token after them.
        sure: False if that token's position must be recomputed in a pass of its own.
    """

    accepted: int
    token: int
    sure: bool = True


class Chooser(Protocol):
    """Picks tokens. A token's position counts from the start of its text, prompt included."""

    def pick(self, logits: Tensor, position: int) -> int:
        """Choose the token of a position from logits [V]."""
        ...

    def draft(self, logits: Tensor, position: int) -> Draft:
        """Choose a token that `verify` will check later."""
        ...

    def verify(self, drafts: Sequence[Draft], logits: Tensor, position: int) -> Verdict:
        """Verify drafts, the first at `position`, against logits [len(drafts) + 1, V]."""
        ...

    def near_tie(self, logits: Tensor, position: int) -> bool:
        """Whether rounding could change the token picked from logits [V], even in a single pass."""
        ...


class Greedy:
    """Picks the token with the largest score, the first among equals; the score is the logit.

    Args:
        dtype: the model's dtype, which bounds the rounding error of a logit.
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self._margin = _MARGIN.get(dtype, _COARSE_MARGIN)
        self._exact = dtype in _MARGIN

    def scores(self, logits: Tensor, position: int) -> Tensor:
        """Compute scores [rows, V] from logits [rows, V]; the first row is for `position`."""
        return logits

    def pick(self, logits: Tensor, position: int) -> int:
        return int(self.scores(logits[None], position).argmax())

    def draft(self, logits: Tensor, position: int) -> Draft:
        confidence, token = self.scores(logits[None], position)[0].softmax(-1).max(-1)
        return Draft(int(token), float(confidence))

    def verify(self, drafts: Sequence[Draft], logits: Tensor, position: int) -> Verdict:
        values, indices = self.scores(logits, position).topk(2)
        for row, ((best, second), (token, _)) in enumerate(
            zip(values.tolist(), indices.tolist(), strict=True)
        ):
            if best - second <= self._margin * max(1.0, abs(best)):
                return Verdict(row, token, sure=False)
            if row == len(drafts) or token != drafts[row].token:
                return Verdict(row, token)
        raise AssertionError("the last row has no draft")

    def near_tie(self, logits: Tensor, position: int) -> bool:
        best, second = self.scores(logits[None], position)[0].topk(2).values.tolist()
        return self._exact and best - second <= self._margin / 10 * max(1.0, abs(best))


class Sampling(Greedy):
    """Draws tokens by temperature and nucleus sampling (top-p, arXiv 1904.09751).

    A token's score is its logit over the temperature, plus Gumbel noise; each token then has the
    largest score with exactly its probability (the Gumbel-max trick). The noise depends only on
    the seed and the position. So a draft and its check use the same noise, which makes them agree
    more often than independent draws would, and the text is the one that the full model draws by
    itself, whatever drafts (arXiv 2408.07978).

    Args:
        temperature: divides the logits; positive.
        top_p: probability mass of the likeliest tokens to draw from, in (0, 1].
        seed: seed of the noise; use a different one for each text.
        dtype: the model's dtype, as for `Greedy`.

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
            raise RequestError(f"temperature must be positive, not {temperature:g}")
        if not 0 < top_p <= 1:
            raise RequestError(f"top-p must be above 0 and at most 1, not {top_p:g}")
        self._temperature = temperature
        self._top_p = top_p
        self._seed = seed
        self._noise: dict[int, Tensor] = {}

    def scores(self, logits: Tensor, position: int) -> Tensor:
        scaled = self._scaled(logits)
        return scaled + torch.stack(
            [self._noise_of(position + row, scaled.shape[-1]) for row in range(len(scaled))]
        )

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the distribution that tokens are drawn from, [..., V] on the CPU."""
        return self._scaled(logits).softmax(-1)

    def _scaled(self, logits: Tensor) -> Tensor:
        """Divide logits by the temperature, on the CPU; minus infinity outside the nucleus."""
        scaled = logits.cpu().double() / self._temperature
        if self._top_p < 1:
            ordered, order = scaled.softmax(-1).sort(-1, descending=True)
            # A token is kept while the likelier ones hold less than top_p, so at least one is.
            outside = ordered.cumsum(-1) - ordered >= self._top_p
            scaled = scaled.masked_fill(outside.scatter(-1, order, outside), -torch.inf)
        return scaled

    def _noise_of(self, position: int, count: int) -> Tensor:
        """Draw the Gumbel noise of a position; cached because a draft and its check both use it."""
        if position not in self._noise:
            if len(self._noise) >= _CACHED_POSITIONS:
                self._noise.clear()
            # "place" is part of the seed: another word would draw other texts.
            generator = Generator().manual_seed(stream_seed(self._seed, "place", position))
            drawn = torch.empty(count, dtype=torch.float64).exponential_(generator=generator)
            self._noise[position] = drawn.log_().neg_()
        return self._noise[position]
