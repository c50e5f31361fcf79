"""The tokens that nearly all scored targets of a part are."""

from __future__ import annotations

import torch

from sortednet_cli.data.text.parts import TextPart
from sortednet_cli.data.text.ragged import IGNORED

SHARE = 0.995
"""Part of all targets that the most frequent tokens make up."""

_BATCH = 256


def frequent_tokens(part: TextPart, vocab_size: int) -> list[int]:
    """List the fewest tokens that make up `SHARE` of the targets, the most frequent first.

    A head with them alone drafts faster (FR-Spec, arXiv 2502.14856). The list is empty where it
    would hold more than half of the vocabulary, as a cut head would then gain little.
    """
    counts = torch.zeros(vocab_size, dtype=torch.int64)
    for _, targets in part.batches(_BATCH, torch.device("cpu")):
        counts += targets[targets != IGNORED].bincount(minlength=vocab_size)
    ordered, tokens = counts.sort(descending=True, stable=True)
    enough = int((ordered.cumsum(0) < SHARE * counts.sum()).sum()) + 1
    return tokens[:enough].tolist() if 2 * enough <= vocab_size else []
