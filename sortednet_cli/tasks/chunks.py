"""Division of logits into chunks of rows, because with a large vocabulary they are very large."""

from __future__ import annotations

from collections.abc import Iterator

MAX_CHUNK_LOGITS = 1 << 23
"""Most elements of logits in one chunk: 32 MiB in float32."""

TRAINING_ROWS = 1024
"""Rows that a chunk may have in training, however large the vocabulary."""


def chunks(num_rows: int, num_outputs: int, allowed_rows: int = 1) -> Iterator[slice]:
    """Yield slices of rows whose logits have at most `MAX_CHUNK_LOGITS` elements.

    Args:
        num_rows: number of all rows.
        num_outputs: logits per row.
        allowed_rows: a slice may have so many, even if their logits have more elements.
    """
    step = max(allowed_rows, MAX_CHUNK_LOGITS // num_outputs)
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))


def training_chunks(num_rows: int, num_outputs: int) -> Iterator[slice]:
    """Yield slices of rows for logits that get gradients.

    Each chunk's backward pass makes and adds a gradient of the whole head. With few rows that takes
    as long as the products, so a chunk may have `TRAINING_ROWS` rows; a loss that needs float32
    copies of its logits divides it further.
    """
    return chunks(num_rows, num_outputs, TRAINING_ROWS)
