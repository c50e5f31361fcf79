"""Interpret folder names: which part a folder holds, and which names look alike."""

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
    """Return the part that a name like `train`, `Test` or `training_set` denotes, or None."""
    words = _words(folder)
    parts = mentioned_parts(folder)
    if len(parts) != 1 or not words <= _FILLERS | _PART_WORDS.keys():
        return None
    return next(iter(parts))


def mentioned_parts(folder: str) -> set[PartName]:
    """Return the parts that words of a name denote: `seg_train` has one, `cats` none."""
    return {_PART_WORDS[word] for word in _words(folder) if word in _PART_WORDS}


def _words(name: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", name.casefold()))


def to_nfc(name: str) -> str:
    """Return a name in Unicode NFC, the form in which names are compared.

    An `é` is one character in NFC; in archives made on a Mac it is two (NFD).
    """
    return unicodedata.normalize("NFC", name)


def look_alikes(names: Iterable[str]) -> list[str]:
    """Return names that differ only in case, spaces or forms of characters; empty if none do.

    The case of single letters counts: a data set of handwriting has both cases as classes.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(_looks(name), []).append(name)
    return next((alike for alike in groups.values() if len(alike) > 1), [])


def _looks(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name).strip()
    return plain if len(plain) == 1 else plain.casefold()
