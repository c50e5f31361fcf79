"""Read and write counts with suffixes: `200k`, `1.5M`, `2G`."""

from __future__ import annotations

import math
import re

from sortednet_cli.errors import RequestError

_SUFFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_COUNT = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:e[0-9]+)?)([kmg]?)", re.IGNORECASE)


def parse_count(text: str) -> int:
    """Read `200k`, `1.5M`, `2G` or a plain number; RequestError otherwise."""
    match = _COUNT.fullmatch(text.strip())
    if match is None or not 0 < float(match[1]) < math.inf:
        raise RequestError(f"{text!r} is not a positive count; write 50000, 200k, 1.5M or 2G")
    return round(float(match[1]) * _SUFFIXES[match[2].lower()])


def format_count(value: float) -> str:
    """Write a count as `parse_count` reads it, with at most four significant digits."""
    for suffix, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{value / scale:.4g}{suffix}"
    return f"{value:.4g}"
