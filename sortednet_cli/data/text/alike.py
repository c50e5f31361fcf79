"""Names that look alike: what tells them apart, and how to show it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_WHOLE_NUMBER = re.compile(r"\+?0*([0-9]+)(?:\.0*)?")


def core(name: str) -> str:
    """What is left of a name without what nobody sees or means.

    That is surrounding space, one of two ways to write an accent, and zeros around a number.
    """
    bare = unicodedata.normalize("NFC", name).strip().strip("\ufeff\u200b")
    number = _WHOLE_NUMBER.fullmatch(bare)
    return number[1] if number else bare


def shown(name: str) -> str:
    """A name in quotes, with escapes where its letters could be written in another way."""
    is_plain = unicodedata.is_normalized("NFC", name) and unicodedata.is_normalized("NFD", name)
    return repr(name) if is_plain else ascii(name)


def hint(name: str, others: Iterable[str]) -> str:
    """Point at the first of other names that looks like `name`; `""` if none does."""
    for other in others:
        if other != name and core(other).casefold() == core(name).casefold():
            return f"; {shown(other)} looks like {shown(name)}, but is not the same"
    return ""
