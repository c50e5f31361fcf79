"""Temporary names beside the real ones: whose they are, and when nobody's any more."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SUFFIX = ".sortednet-tmp"
_NAME = re.compile(r"\..*\.\d+-[0-9a-f]{8}" + re.escape(SUFFIX), re.DOTALL)


@contextmanager
def temporary(path: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """Make a file or folder beside `path` that is locked until it has its real name.

    What is left at the end under the temporary name is removed, and before it whatever dead
    processes have left in the folder.

    Args:
        make: makes the file or folder; raises OSError if it cannot.
    """
    sweep(path.parent)
    held = None
    while held is None:
        # The process is for people to read: its number says nothing in another container.
        name = f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        place = path.with_name(name)
        make(place)
        try:
            held = _hold(place)
        except OSError:
            _remove(place)
            raise
    try:
        yield place
    finally:
        _remove(place)
        os.close(held)


def sweep(folder: Path) -> None:
    """Remove what processes have left in `folder` that died while they wrote.

    It is ours by its name, and nobody's if its lock is free: the kernel gives up a lock with its
    process, whatever a process of that number may be in another container. Where the file
    system knows no locks nothing is removed.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        left = [entry for entry in entries if _NAME.fullmatch(entry.name)]
        for entry in left:
            if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False):
                _sweep_one(Path(entry.path))


def _sweep_one(place: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(place)
        finally:
            os.close(descriptor)


def _hold(place: Path) -> int | None:
    """Lock what was just made; None if another process's sweep was faster."""
    try:
        descriptor = os.open(place, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        pass  # No locks here: then no sweep removes it either.
    if place.exists():
        return descriptor
    os.close(descriptor)
    return None


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        with suppress(OSError):
            place.unlink(missing_ok=True)
