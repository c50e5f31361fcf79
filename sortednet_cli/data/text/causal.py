"""Causal language modelling: documents are concatenated and cut into windows of equal length."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from sortednet_cli.data.text.format import TextFormat
from sortednet_cli.data.text.parts import Batch, TextPart
from sortednet_cli.data.text.ragged import IGNORED, num_utf8, ragged, token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class CausalPart(TextPart):
    """Windows of a token stream; every token is predicted once, except a document's first.

    A window may hold several documents. `position_ids` restart at 0 with each, which shows the
    model where one ends. There is no attention mask: in causal attention no token sees the padding
    after it.
    """

    def __init__(
        self,
        documents: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        text_format: TextFormat,
    ) -> None:
        self._length = text_format.max_length
        self._pad_id = text_format.pad_id
        texts = [text for text in documents if text]
        stream = ragged(_with_special_tokens(texts, tokenizer, text_format))
        self._stream = stream.values
        self._starts = stream.starts[:-1]
        self.num_bytes = num_utf8(texts)
        self.num_targets = len(self._stream) - len(self._starts)

    def __len__(self) -> int:
        return math.ceil(len(self._stream) / self._length)

    def make_batch(self, indices: Tensor, generator: Generator | None) -> Batch:
        """Make windows: `input_ids` and targets [B, T]; `position_ids` if documents are packed."""
        last = len(self._stream) - 1
        first = indices[:, None] * self._length
        positions = first + torch.arange(self._length)
        inside = positions.clamp_max(last)
        following = (positions + 1).clamp_max(last)
        document = self._document(inside)
        ids = self._stream[inside].long().masked_fill(positions > last, self._pad_id)
        unscored = (positions >= last) | (self._document(following) != document)
        targets = self._stream[following].long().masked_fill(unscored, IGNORED)
        inputs = {"input_ids": ids}
        if (document[:, -1] != document[:, 0]).any():
            inputs["position_ids"] = positions - torch.maximum(self._starts[document], first)
        return inputs, targets

    def _document(self, positions: Tensor) -> Tensor:
        return torch.searchsorted(self._starts, positions, right=True) - 1


def _with_special_tokens(
    texts: list[str], tokenizer: PreTrainedTokenizerBase, text_format: TextFormat
) -> Iterator[list[int]]:
    before = [] if text_format.bos_id is None else [text_format.bos_id]
    after = [] if text_format.eos_id is None else [text_format.eos_id]
    for ids in token_ids(tokenizer, texts):
        # A text of spaces can have no tokens; skip it, as two documents must not share a start.
        if before or ids or after:
            yield [*before, *ids, *after]
