"""Token sequences of different lengths, stored in one tensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHUNK = 1024
IGNORED = -100
"""The target that cross-entropy ignores."""


@dataclass(frozen=True)
class Ragged:
    """Concatenated sequences: `values` int32 [N]; the i-th is values[starts[i]:starts[i + 1]].

    `starts` is int64 [number of sequences + 1].
    """

    values: Tensor
    starts: Tensor

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Tensor:
        """Number of tokens of each sequence, int64."""
        return self.starts.diff()

    def __getitem__(self, index: int) -> Tensor:
        return self.values[int(self.starts[index]) : int(self.starts[index + 1])]


def ragged(sequences: Iterable[Sequence[int]]) -> Ragged:
    """Concatenate sequences, which an iterator may produce one by one."""
    lengths: list[int] = [0]
    pieces: list[Tensor] = []
    pending: list[int] = []
    for sequence in sequences:
        lengths.append(len(sequence))
        pending.extend(sequence)
        if len(pending) > CHUNK * CHUNK:
            pieces.append(torch.tensor(pending, dtype=torch.int32))
            pending = []
    pieces.append(torch.tensor(pending, dtype=torch.int32))
    return Ragged(torch.cat(pieces), torch.tensor(lengths, dtype=torch.int64).cumsum(0))


def padded_rows(sequences: Ragged, indices: Tensor, inside: Tensor, padding: int) -> Tensor:
    """Return sequences as padded rows, int64 [B, T]; `inside` [B, T] is True at their tokens."""
    positions = sequences.starts[indices][:, None] + torch.arange(inside.shape[1])
    tokens = sequences.values[positions.clamp_max(len(sequences.values) - 1)].long()
    return tokens.masked_fill(~inside, padding)


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Iterator[list[int]]:
    """Yield the token ids of each text, without special tokens."""
    backend = tokenizer.backend_tokenizer
    for start in range(0, len(texts), CHUNK):
        chunk = list(texts[start : start + CHUNK])
        for encoding in backend.encode_batch_fast(chunk, add_special_tokens=False):
            yield encoding.ids


def num_utf8(texts: Iterable[str]) -> int:
    """Count the UTF-8 bytes of texts."""
    return sum(len(text.encode()) for text in texts)
