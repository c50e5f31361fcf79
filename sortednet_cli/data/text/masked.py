"""Masked language modelling: pieces of documents in which some tokens are masked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from sortednet_cli.data.text.format import TextFormat
from sortednet_cli.data.text.parts import Batch, Inputs, TextPart, padded_length
from sortednet_cli.data.text.ragged import IGNORED, padded_rows, ragged, token_ids
from sortednet_cli.data.text.tokenizer import surrounding
from sortednet_cli.seeds import stream_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MASKED, RANDOM = 0.8, 0.1
"""Fractions of the selected tokens that become the mask token and a random token; others stay.

From Devlin et al., BERT (2019), section 3.1.
"""


class MaskedPart(TextPart):
    """Pieces of at most `max_length` tokens, with the tokenizer's special tokens around each.

    Training selects new tokens every time. Otherwise the selection depends only on the part and
    the piece, so that all models and batch sizes are scored on the same tokens.
    """

    def __init__(
        self,
        documents: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        text_format: TextFormat,
        *,
        name: str,
        fraction: float,
    ) -> None:
        self._name = name
        self._fraction = fraction
        self._format = text_format
        self._mask_id = int(tokenizer.mask_token_id)
        before, after = surrounding(tokenizer)
        self._before, self._after = len(before), len(after)
        self._pieces = ragged(
            [*before, *piece, *after]
            for ids in token_ids(tokenizer, documents)
            for piece in _cut(ids, text_format.max_length - len(before) - len(after))
        )

    def __len__(self) -> int:
        return len(self._pieces)

    def make_batch(self, indices: Tensor, generator: Generator | None) -> Batch:
        """Make a batch: `input_ids` [B, T], `attention_mask` if lengths differ, targets [B, T].

        Targets are the selected tokens, and -100 elsewhere.
        """
        lengths = self._pieces.lengths[indices]
        width = padded_length(lengths, self._format.max_length)
        position = torch.arange(width)
        inside = position < lengths[:, None]
        ids = padded_rows(self._pieces, indices, inside, self._format.pad_id)
        eligible = (position >= self._before) & (position < lengths[:, None] - self._after)
        noise = self._noise(indices, inside, generator)
        selected = _lowest(noise[0], eligible, self._fraction)
        inputs: Inputs = {"input_ids": self._mask(ids, selected, *noise[1:])}
        if not bool(inside.all()):
            inputs["attention_mask"] = inside.long()
        return inputs, ids.masked_fill(~selected, IGNORED)

    def _mask(self, ids: Tensor, selected: Tensor, action: Tensor, other: Tensor) -> Tensor:
        masked = selected & (action < MASKED)
        changed = selected & (action >= MASKED) & (action < MASKED + RANDOM)
        random = (other * self._format.vocab_size).long()
        return torch.where(changed, random, ids).masked_fill(masked, self._mask_id)

    def _noise(self, indices: Tensor, inside: Tensor, generator: Generator | None) -> Tensor:
        """Return uniform numbers [3, B, T] for the selection, the action and the random token."""
        if generator is not None:
            return torch.rand(3, *inside.shape, generator=generator)
        positions = self._pieces.starts[indices][:, None] + torch.arange(inside.shape[1])
        return self._fixed_noise[:, positions.clamp_max(self._fixed_noise.shape[1] - 1)]

    @cached_property
    def _fixed_noise(self) -> Tensor:
        generator = Generator().manual_seed(stream_seed("mask", self._name))
        return torch.rand(3, len(self._pieces.values), generator=generator)


def _cut(ids: list[int], length: int) -> Iterator[list[int]]:
    return (ids[start : start + length] for start in range(0, len(ids), length))


def _lowest(noise: Tensor, eligible: Tensor, fraction: float) -> Tensor:
    """Select a fraction of each row's eligible positions, at least one: bool [B, T]."""
    ranks = noise.masked_fill(~eligible, 2.0).argsort(dim=1, stable=True).argsort(1)
    count = (eligible.sum(1) * fraction).round().clamp_min(1)
    lowest: Tensor = ranks < count[:, None]
    return eligible & lowest
