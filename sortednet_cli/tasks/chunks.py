"""Compute logits in chunks of rows: with a large vocabulary they are the largest tensor."""

from __future__ import annotations

from collections.abc import Iterator

MAX_CHUNK_LOGITS = 1 << 23
"""Most elements of logits in one chunk: 32 MiB in float32."""


def chunks(num_rows: int, num_outputs: int) -> Iterator[slice]:
    """Divide rows of `num_outputs` logits each into slices within the bound."""
    step = max(1, MAX_CHUNK_LOGITS // num_outputs)
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))
