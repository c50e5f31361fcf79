"""Choice of tokens from logits, greedily or by sampling, and verification of drafted tokens.

Drafts stay on the device. Every other method of a chooser waits for the device once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from sortednet_cli.engine.requests import SamplingOptions
from sortednet_cli.errors import RequestError
from sortednet_cli.machine.transfer import fetch, send
from sortednet_cli.seeds import stream_seed

_MARGIN = {torch.float32: 1e-4, torch.float64: 1e-10}
_COARSE_MARGIN = {torch.float16: 3e-3, torch.bfloat16: 2e-2}
"""Relative difference of two logits below which rounding could swap them. In float32, a pass over
several positions and a pass over one differ by about 1e-6."""

_CACHED_POSITIONS = 32
"""Number of positions whose noise is cached: more than a round usually drafts.
Beyond it noise is drawn again."""


class Draft(NamedTuple):
    """A drafted token and its probability at the exit that drafted it, both on the device."""

    token: Tensor
    confidence: Tensor


@dataclass(frozen=True)
class Verdict:
    """The result of verifying drafts.

    Attributes:
        kept: the accepted drafts.
        token: the token after them.
        sure: False if that token's position must be recomputed in a pass of its own.
        confidences: probabilities of all drafts at the exit that drafted them.
    """

    kept: list[int]
    token: int
    sure: bool
    confidences: list[float]

    @property
    def accepted(self) -> int:
        """Number of accepted drafts."""
        return len(self.kept)


class Chooser(Protocol):
    """Picks tokens. A token's position counts from the start of its text, prompt included."""

    def pick(self, logits: Tensor, position: int) -> int:
        """Choose the token of a position from logits [V]."""
        ...

    def pick_if(self, logits: Tensor, position: int, threshold: float) -> int | None:
        """Choose as `pick` does, but only if the largest probability reaches a threshold."""
        ...

    def settle(self, logits: Tensor, position: int) -> tuple[int, bool]:
        """Choose as `pick` does; also say whether rounding could change the token even so."""
        ...

    def draft(self, logits: Tensor, position: int) -> Draft:
        """Choose a token that `verify` will check later, without waiting for the device."""
        ...

    def verify(self, drafts: Sequence[Draft], logits: Tensor, position: int) -> Verdict:
        """Verify drafts, the first at `position`, against logits [len(drafts) + 1, V]."""
        ...


class Greedy:
    """Picks the token with the largest score, the first among equals; the score is the logit.

    Args:
        dtype: the model's dtype, which bounds the rounding error of a logit.
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self._margin = (_MARGIN | _COARSE_MARGIN)[dtype]
        self._exact = dtype in _MARGIN

    def scores(self, logits: Tensor, position: int) -> Tensor:
        """Compute scores [rows, V] from logits [rows, V]; the first row is for `position`."""
        return logits

    def pick(self, logits: Tensor, position: int) -> int:
        return int(self.scores(logits[None], position).argmax())

    def pick_if(self, logits: Tensor, position: int, threshold: float) -> int | None:
        chosen = self.scores(logits[None], position).argmax()
        confidence, token = fetch((logits.softmax(-1).max(), chosen))
        return int(token) if float(confidence) >= threshold else None

    def settle(self, logits: Tensor, position: int) -> tuple[int, bool]:
        scores = self.scores(logits[None], position)[0]
        token, values = fetch((scores.argmax(), scores.topk(2).values))
        best, second = values.tolist()
        near = best - second <= self._margin / 10 * max(1.0, abs(best))
        return int(token), self._exact and near

    def draft(self, logits: Tensor, position: int) -> Draft:
        return _likeliest(logits)

    def verify(self, drafts: Sequence[Draft], logits: Tensor, position: int) -> Verdict:
        values, indices = self.scores(logits, position).topk(2)
        values, indices, drafts = fetch((values, indices, list(drafts)))
        drafted = [int(draft.token) for draft in drafts]
        confidences = [float(draft.confidence) for draft in drafts]
        kept: list[int] = []
        for (best, second), (token, _) in zip(values.tolist(), indices.tolist(), strict=True):
            sure = best - second > self._margin * max(1.0, abs(best))
            if not sure or drafted[len(kept) : len(kept) + 1] != [token]:
                return Verdict(kept, token, sure, confidences)
            kept.append(token)
        raise AssertionError("the last row has no draft")


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
        return self._noisy(logits.cpu().double(), position)

    def pick_if(self, logits: Tensor, position: int, threshold: float) -> int | None:
        confidence, logits = fetch((logits.softmax(-1).max(), logits))
        return self.pick(logits, position) if float(confidence) >= threshold else None

    def draft(self, logits: Tensor, position: int) -> Draft:
        # In the precision of the logits, where they are: rounding costs a draft at worst.
        return _likeliest(self._noisy(logits[None], position)[0])

    def verify(self, drafts: Sequence[Draft], logits: Tensor, position: int) -> Verdict:
        drafts, logits = fetch((list(drafts), logits))
        return super().verify(drafts, logits, position)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the distribution that tokens are drawn from, [..., V] on the CPU."""
        return self._scaled(logits.cpu().double()).softmax(-1)

    def _noisy(self, logits: Tensor, position: int) -> Tensor:
        """Scale logits [rows, V] and add noise; the first row is for `position`."""
        rows, count = logits.shape
        noise = torch.stack([self._noise_of(position + row, count) for row in range(rows)])
        return self._scaled(logits) + send(noise.to(logits.dtype), logits.device)

    def _scaled(self, logits: Tensor) -> Tensor:
        """Divide logits by the temperature; minus infinity outside the nucleus."""
        scaled = logits / self._temperature
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


def _likeliest(scores: Tensor) -> Draft:
    """Draft the token with the largest of the scores [V]."""
    confidence, token = scores.softmax(-1).max(-1)
    return Draft(token, confidence)


def make_chooser(
    options: SamplingOptions | None, number: int = 0, dtype: torch.dtype = torch.float32
) -> Greedy:
    """Return what picks the tokens after prompt `number` of a request: greedy without options.

    Raises:
        RequestError: an option is out of range.
    """
    if options is None:
        return Greedy(dtype)
    seed = stream_seed(options.seed, "draw", number)
    return Sampling(options.temperature, options.top_p, seed, dtype)
