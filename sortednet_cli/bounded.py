"""Reading files that others made: regular ones alone, and no more of them than is allowed."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MAX_SPEC = 1 << 20
"""Bytes of a spec."""

MAX_JSON = 64 << 20
"""Bytes of a JSON file: the table of the largest search space has half as many."""

MAX_NESTING = 64
"""Tables and lists inside one another in a spec or a JSON file: stock configurations have five."""

MAX_TEXT = 4 << 30
"""Bytes of a file of texts."""

MAX_TOKENIZER = 256 << 20
"""Bytes of one of a tokenizer's files."""

_POINTER = b"version https://git-lfs.github.com/spec/"
_LONGEST_POINTER = 1024
"""Bytes: a clone without Git LFS holds such a text in place of each large file."""


def read_bounded(path: Path, most: int) -> bytes:
    """Read a whole file.

    Raises:
        OSError: it cannot be read, is no regular file (opening a pipe would wait for ever), has
            more than `most` bytes, or is a pointer of Git LFS.
    """
    size = _regular_size(path, most)
    with path.open("rb") as file:
        data = file.read(size + 1)  # room for all of it is taken at once
        while len(data) > size:  # it has grown, or its system tells no sizes
            size = min(most, 2 * size + (1 << 16))
            data += file.read(size + 1 - len(data))
            if len(data) > most:
                raise _too_large(path, most)
    _refuse_pointer(path, data)
    return data


def check_regular(path: Path, most: int | None = None) -> int:
    """Size of a regular file, or of one that `path` links to.

    Raises:
        OSError: it is none, has more than `most` bytes, or is a pointer of Git LFS.
    """
    size = _regular_size(path, most)
    if size < _LONGEST_POINTER:
        with path.open("rb") as file:
            _refuse_pointer(path, file.read(len(_POINTER)))
    return size


def _refuse_pointer(path: Path, data: bytes) -> None:
    if len(data) < _LONGEST_POINTER and data.startswith(_POINTER):
        reason = "it is not the file itself but a pointer of Git LFS to it: run `git lfs pull`"
        raise OSError(0, reason, str(path))


def _regular_size(path: Path, most: int | None) -> int:
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(0, "it is no regular file", str(path))
    if most is not None and found.st_size > most:
        raise _too_large(path, most)
    return found.st_size


def check_nesting(tree: object) -> None:
    """ValueError if lists and tables lie too deep inside one another for what follows to go on."""
    level: list[object] = [tree]
    for _ in range(MAX_NESTING):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        level = [item for item in inner if isinstance(item, dict | list)]
        if not level:
            return
    raise ValueError(f"nested deeper than {MAX_NESTING} levels")


def _too_large(path: Path, most: int) -> OSError:
    size = f"{most >> 20} MiB" if most < 1 << 30 else f"{most >> 30} GiB"
    return OSError(0, f"it has more than {size}", str(path))
