"""What follows the phrases that the training texts repeat."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sortednet_cli.data.text.parts import TextPart
from sortednet_cli.data.text.ragged import IGNORED
from sortednet_cli.storage.phrases import LONGEST, Phrases

_BATCH = 256

_MOST_TARGETS = 1 << 21
"""Targets that are counted, from the first on: enough to know what is frequent."""

_MOST_PHRASES = 1 << 17
"""Phrases that are kept: the most frequent."""

_LEAST = 2
"""Times that a phrase and its next token must stand in the texts."""

_DOUBT = 1.5
"""Times that something else is taken to follow, besides what was counted."""


def repeated_phrases(part: TextPart, vocab_size: int) -> Phrases:
    """List the phrases of one to `LONGEST` tokens before scored targets, with the likeliest next.

    A phrase and its next token are kept if they stand in the texts twice or more; of these the
    most frequent `_MOST_PHRASES`.
    """
    inputs, targets = _windows(part)
    scored = targets != IGNORED
    ids, num_ids = inputs, vocab_size
    found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for size in range(1, LONGEST + 1):
        if size > 1:
            # A phrase is the shorter one that ends there and the token before it.
            before = F.pad(inputs, (size - 1, 0))[:, : inputs.shape[1]]
            named, ids = torch.unique(ids * vocab_size + before, return_inverse=True)
            num_ids = len(named)
            scored = scored & (torch.arange(inputs.shape[1]) >= size - 1)
        found.append(_likeliest(ids, num_ids, inputs, targets, scored, size))
    phrases, tokens, shares, counts = (torch.cat(parts) for parts in zip(*found, strict=True))
    kept = counts.argsort(descending=True, stable=True)[:_MOST_PHRASES]
    return Phrases(phrases[kept], tokens[kept], shares[kept])


def _windows(part: TextPart) -> tuple[Tensor, Tensor]:
    """Return the first windows of a part and their targets, int64 [S, T] each."""
    inputs, targets, num_targets = list[Tensor](), list[Tensor](), 0
    for batch, wanted in part.batches(_BATCH, torch.device("cpu")):
        inputs.append(batch["input_ids"])
        targets.append(wanted)
        num_targets += int((wanted != IGNORED).sum())
        if num_targets >= _MOST_TARGETS:
            break
    longest = max(tensor.shape[1] for tensor in inputs)
    return _joined(inputs, longest, 0), _joined(targets, longest, IGNORED)


def _joined(tensors: list[Tensor], length: int, filler: int) -> Tensor:
    return torch.cat([F.pad(one, (0, length - one.shape[1]), value=filler) for one in tensors])


def _likeliest(
    ids: Tensor, num_ids: int, inputs: Tensor, targets: Tensor, scored: Tensor, size: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return phrases [E, LONGEST], the likeliest next token of each, its share and its count.

    Args:
        ids: number of the phrase of `size` tokens that ends at each input, [S, T].
        scored: where the phrase stands before a scored target, [S, T].
    """
    rows, columns = scored.nonzero(as_tuple=True)
    phrase, following = ids[rows, columns], targets[rows, columns]
    width = int(following.max()) + 1 if len(following) else 1
    pairs, place, counts = torch.unique(
        phrase * width + following, return_inverse=True, return_counts=True
    )
    owners, totals = pairs // width, phrase.bincount(minlength=num_ids)
    # By phrase and then by count: the last pair of each phrase is its most frequent.
    order = counts.argsort(stable=True)
    order = order[owners[order].argsort(stable=True)]
    best = order[F.pad(owners[order].diff(), (0, 1), value=1)[: len(order)] > 0]
    best = best[counts[best] >= _LEAST]
    ends = place.argsort(stable=True)[(counts.cumsum(0) - counts)[best]]
    offsets = torch.arange(size - 1, -1, -1)
    words = inputs[rows[ends][:, None], columns[ends][:, None] - offsets]
    shares = counts[best] / (totals[owners[best]] + _DOUBT)
    padded = F.pad(words, (LONGEST - size, 0), value=-1)
    return padded, pairs[best] % width, shares, counts[best]
