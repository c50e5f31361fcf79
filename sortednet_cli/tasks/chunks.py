"""Logits a chunk of rows at a time: with a large vocabulary they are the largest tensor of all."""

from __future__ import annotations

from collections.abc import Iterator

LOGITS_AT_ONCE = 1 << 23
"""Elements of logits that one chunk may have: 32 MiB in float32."""


def chunks(num_rows: int, num_outputs: int) -> Iterator[slice]:
    """Cut rows of `num_outputs` logits each into slices that stay within the bound."""
    step = max(1, LOGITS_AT_ONCE // num_outputs)
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))
