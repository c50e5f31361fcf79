"""Classification: texts or pairs of texts with a class each, padded to the longest of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from sortednet_cli.data.text.format import TextFormat
from sortednet_cli.data.text.parts import Batch, Inputs, TextPart, Truncation, padded_length
from sortednet_cli.data.text.ragged import CHUNK, padded_rows, ragged
from sortednet_cli.data.text.records import Records

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SEGMENTS = "token_type_ids"


class LabelledPart(TextPart):
    """Texts with the tokenizer's special tokens, and their classes."""

    def __init__(
        self,
        records: Records,
        tokenizer: PreTrainedTokenizerBase,
        text_format: TextFormat,
        truncation: Truncation,
    ) -> None:
        assert records.labels is not None
        self._format = text_format
        self._labels = torch.from_numpy(records.labels)
        pairs = records.seconds is not None and _SEGMENTS in tokenizer.model_input_names
        segments: list[list[int]] = []
        encoded = _encoded(records, tokenizer, text_format.max_length, truncation)
        self._ids = ragged(_split_off(encoded, segments) if pairs else (ids for ids, _ in encoded))
        self._segments = ragged(segments) if pairs else None

    def __len__(self) -> int:
        return len(self._labels)

    def make_batch(self, indices: Tensor, generator: Generator | None) -> Batch:
        """Make a batch: `input_ids` [B, T], `attention_mask` if lengths differ, classes [B]."""
        lengths = self._ids.lengths[indices]
        width = padded_length(lengths, self._format.max_length)
        inside = torch.arange(width) < lengths[:, None]
        inputs: Inputs = {"input_ids": padded_rows(self._ids, indices, inside, self._format.pad_id)}
        if not bool(inside.all()):
            inputs["attention_mask"] = inside.long()
        if self._segments is not None:
            inputs[_SEGMENTS] = padded_rows(self._segments, indices, inside, 0)
        return inputs, self._labels[indices]


Encoded = Iterator[tuple[list[int], list[int]]]


def _encoded(
    records: Records, tokenizer: PreTrainedTokenizerBase, max_length: int, truncation: Truncation
) -> Encoded:
    """Yield the token ids and segments of each record; in a pair, the longer text is cut first."""
    options: dict[str, Any] = {
        "return_attention_mask": False,
        "return_token_type_ids": True,
        "verbose": False,
    }
    for start in range(0, len(records), CHUNK):
        columns = [
            column[start : start + CHUNK]
            for column in (records.texts, records.seconds)
            if column is not None
        ]
        encoded = tokenizer(*columns, **options)
        long = [i for i, ids in enumerate(encoded["input_ids"]) if len(ids) > max_length]
        if long:
            cut = tokenizer(
                *([column[i] for i in long] for column in columns),
                truncation=True,
                max_length=max_length,
                **options,
            )
            for name in ("input_ids", _SEGMENTS):
                for index, values in zip(long, cut[name], strict=True):
                    encoded[name][index] = values
        truncation.count(len(long), len(columns[0]))
        yield from zip(encoded["input_ids"], encoded[_SEGMENTS], strict=True)


def _split_off(encoded: Encoded, segments: list[list[int]]) -> Iterator[list[int]]:
    for ids, kinds in encoded:
        segments.append(kinds)
        yield ids
