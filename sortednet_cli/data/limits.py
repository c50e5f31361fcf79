"""Bounds on what a folder of data may hold, for images and for texts."""

from __future__ import annotations

MAX_FILES = 5_000_000
MAX_LEVELS = 64
"""Folders inside one another: links may make a few folders look like very many."""
