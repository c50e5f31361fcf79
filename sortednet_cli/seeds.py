"""Seeds of random streams, derived from a stream's purpose and not from earlier draws."""

from __future__ import annotations

import hashlib


def stream_seed(*keys: int | str) -> int:
    """Derive a 63-bit seed from `keys`, the same on every machine and Python.

    Every random choice of a run names its stream, for example
    `stream_seed(seed, "augment", update, micro_batch, rank)`. So a resumed run draws what an
    uninterrupted run would, and a job of several processes draws what a single process would.
    """
    text = "\x1f".join(str(key) for key in keys)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
