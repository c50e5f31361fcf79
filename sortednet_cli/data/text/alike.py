"""Detect names that look alike, and show the difference."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_WHOLE_NUMBER = re.compile(r"\+?0*([0-9]+)(?:\.0*)?")


def normalized(name: str) -> str:
    """Normalize a name: remove invisible and meaningless differences.

    These are surrounding space, the two encodings of an accent, and zeros around a number.
    """
    bare = unicodedata.normalize("NFC", name).strip().strip("\ufeff\u200b")
    number = _WHOLE_NUMBER.fullmatch(bare)
    return number[1] if number else bare


def quoted(name: str) -> str:
    """Quote a name, with escapes if its letters have more than one encoding."""
    is_plain = unicodedata.is_normalized("NFC", name) and unicodedata.is_normalized("NFD", name)
    return repr(name) if is_plain else ascii(name)


def hint(name: str, others: Iterable[str]) -> str:
    """Return a hint at the first other name that looks like `name`; `""` if none does."""
    for other in others:
        if other != name and normalized(other).casefold() == normalized(name).casefold():
            return f"; {quoted(other)} looks like {quoted(name)}, but is another name"
    return ""
