"""Bounds on a folder of data, for images and texts."""

from __future__ import annotations

MAX_FILES = 5_000_000
MAX_LEVELS = 64
"""Most levels of nested folders: links can make a few folders look like very many."""
