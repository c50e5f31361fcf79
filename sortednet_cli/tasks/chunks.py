"""Division of logits into chunks of rows, because with a large vocabulary they are very large."""

from __future__ import annotations

from collections.abc import Iterator

MAX_CHUNK_LOGITS = 1 << 23
"""Most elements of logits in one chunk: 32 MiB in float32."""


def chunks(num_rows: int, num_outputs: int) -> Iterator[slice]:
    """Yield slices of rows whose logits have at most `MAX_CHUNK_LOGITS` elements.

    Args:
        num_rows: number of all rows.
        num_outputs: logits per row.
    """
    step = max(1, MAX_CHUNK_LOGITS // num_outputs)
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))
