"""Masked language modelling: pieces of documents in which some tokens are hidden."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from sortednet_cli.data.text.format import TextFormat
from sortednet_cli.data.text.parts import Batch, Inputs, TextPart, padded_length
from sortednet_cli.data.text.ragged import IGNORED, ragged, rows, token_ids
from sortednet_cli.data.text.tokenizer import surrounding
from sortednet_cli.seeds import stream_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MASKED, RANDOM = 0.8, 0.1
"""Shares of the hidden tokens that become the mask token and a random one; the rest stay.

From Devlin et al., BERT (2019), section 3.1.
"""


class MaskedPart(TextPart):
    """Pieces of at most `max_length` tokens, the tokenizer's special tokens around each.

    Training hides other tokens every time; otherwise which are hidden depends on the part and
    the piece alone, so that all models and batch sizes are scored on the same ones.
    """

    def __init__(
        self,
        documents: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        text_format: TextFormat,
        *,
        name: str,
        share: float,
    ) -> None:
        self._name = name
        self._share = share
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

    def gather(self, chosen: Tensor, generator: Generator | None) -> Batch:
        """Make a batch: `input_ids` [B, T], `attention_mask` if some are shorter, targets [B, T].

        Targets are the tokens that were hidden, -100 elsewhere.
        """
        lengths = self._pieces.lengths[chosen]
        width = padded_length(lengths, self._format.max_length)
        place = torch.arange(width)
        inside = place < lengths[:, None]
        ids = rows(self._pieces, chosen, inside, self._format.pad_id)
        eligible = (place >= self._before) & (place < lengths[:, None] - self._after)
        noise = self._noise(chosen, inside, generator)
        hidden = _lowest(noise[0], eligible, self._share)
        inputs: Inputs = {"input_ids": self._hide(ids, hidden, *noise[1:])}
        if not bool(inside.all()):
            inputs["attention_mask"] = inside.long()
        return inputs, ids.masked_fill(~hidden, IGNORED)

    def _hide(self, ids: Tensor, hidden: Tensor, action: Tensor, other: Tensor) -> Tensor:
        masked = hidden & (action < MASKED)
        changed = hidden & (action >= MASKED) & (action < MASKED + RANDOM)
        random = (other * self._format.vocab_size).long()
        return torch.where(changed, random, ids).masked_fill(masked, self._mask_id)

    def _noise(self, chosen: Tensor, inside: Tensor, generator: Generator | None) -> Tensor:
        """Return uniform numbers [3, B, T]: which are hidden, by what, and by which token."""
        if generator is not None:
            return torch.rand(3, *inside.shape, generator=generator)
        places = self._pieces.starts[chosen][:, None] + torch.arange(inside.shape[1])
        return self._fixed_noise[:, places.clamp_max(self._fixed_noise.shape[1] - 1)]

    @cached_property
    def _fixed_noise(self) -> Tensor:
        generator = Generator().manual_seed(stream_seed("mask", self._name))
        return torch.rand(3, len(self._pieces.values), generator=generator)


def _cut(ids: list[int], length: int) -> Iterator[list[int]]:
    return (ids[start : start + length] for start in range(0, len(ids), length))


def _lowest(noise: Tensor, eligible: Tensor, share: float) -> Tensor:
    """Choose this share of each row's eligible places, at least one: bool [B, T]."""
    ranks = noise.masked_fill(~eligible, 2.0).argsort(dim=1, stable=True).argsort(1)
    count = (eligible.sum(1) * share).round().clamp_min(1)
    lowest: Tensor = ranks < count[:, None]
    return eligible & lowest
