"""What the names of folders say: which part one holds, and which of two mean the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from sortednet_cli.data.part_names import PART_NAMES
from sortednet_cli.data.split import PartName

_PART_WORDS: dict[str, PartName] = {
    **PART_NAMES,
    **{f"{name}set": part for name, part in PART_NAMES.items()},
}
_FILLERS = frozenset(
    ("set", "data", "dataset", "split", "part", "folder", "image", "images", "img", "imgs")
)


def part_of(folder: str) -> PartName | None:
    """Tell the part that a folder's name says, as do `train`, `Test`, `training_set`; or None."""
    words = _words(folder)
    parts = mentioned_parts(folder)
    if len(parts) != 1 or not words <= _FILLERS | _PART_WORDS.keys():
        return None
    return next(iter(parts))


def mentioned_parts(folder: str) -> set[PartName]:
    """Tell the parts that words of a folder's name are of: `seg_train` has one, `cats` none."""
    return {_PART_WORDS[word] for word in _words(folder) if word in _PART_WORDS}


def _words(name: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", name.casefold()))


def composed(name: str) -> str:
    """Return the form in which names are compared: systems write an accent in one way or another.

    An `é` is one character (NFC) or, in archives made on a Mac, two (NFD).
    """
    return unicodedata.normalize("NFC", name)


def look_alikes(names: Iterable[str]) -> list[str]:
    """Return some names that differ in case, spaces or forms of characters alone, or none.

    Letters by themselves are told apart by their case: they are what is to be read.
    """
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        found.setdefault(_looks(name), []).append(name)
    return next((alike for alike in found.values() if len(alike) > 1), [])


def _looks(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name).strip()
    return plain if len(plain) == 1 else plain.casefold()
