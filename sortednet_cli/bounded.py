"""Reading untrusted files: regular files only, up to a given size."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MAX_SPEC = 1 << 20
"""Most bytes of a spec."""

MAX_JSON = 64 << 20
"""Most bytes of a JSON file: twice as many as the table of the largest search space has."""

MAX_NESTING = 64
"""Most nested tables and lists in a spec or a JSON file: stock configurations have five."""

MAX_TEXT = 4 << 30
"""Most bytes of a text file."""

MAX_TOKENIZER = 256 << 20
"""Most bytes of a tokenizer file."""

_POINTER = b"version https://git-lfs.github.com/spec/"
_LONGEST_POINTER = 1024
"""Most bytes of a Git LFS pointer, which a clone without LFS holds in place of a large file."""


def read_bounded(path: Path, most: int) -> bytes:
    """Read a whole file.

    Raises:
        OSError: it cannot be read, is not a regular file (opening a pipe could block), has more
            than `most` bytes, or is a Git LFS pointer.
    """
    size = _regular_size(path, most)
    with path.open("rb") as file:
        data = file.read(size + 1)
        while len(data) > size:  # the file has grown, or its file system reports no size
            size = min(most, 2 * size + (1 << 16))
            data += file.read(size + 1 - len(data))
            if len(data) > most:
                raise _too_large(path, most)
    _refuse_pointer(path, data)
    return data


def check_regular(path: Path, most: int | None = None) -> int:
    """Return the size in bytes of a regular file; symbolic links are followed.

    Raises:
        OSError: it is not a regular file, has more than `most` bytes, or is a Git LFS pointer.
    """
    size = _regular_size(path, most)
    if size < _LONGEST_POINTER:
        with path.open("rb") as file:
            _refuse_pointer(path, file.read(len(_POINTER)))
    return size


def _refuse_pointer(path: Path, data: bytes) -> None:
    if len(data) < _LONGEST_POINTER and data.startswith(_POINTER):
        reason = "it is a Git LFS pointer instead of the file itself: run `git lfs pull`"
        raise OSError(0, reason, str(path))


def _regular_size(path: Path, most: int | None) -> int:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "it is not a regular file", str(path))
    if most is not None and status.st_size > most:
        raise _too_large(path, most)
    return status.st_size


def check_nesting(tree: object) -> None:
    """ValueError if lists and tables are nested deeper than recursive code can follow."""
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
