"""Temporary names beside the real ones: whose they are, and when nobody's any more."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock

from sortednet_cli.storage.lock import try_lock

SUFFIX = ".sortednet-tmp"
_LOCK_SUFFIX = f".lock{SUFFIX}"
_LOCK_NAME = re.compile(r"\..*\.\d+-[0-9a-f]{8}" + re.escape(_LOCK_SUFFIX), re.DOTALL)


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Give a name beside `path` for a file or folder that is to be `path` once it is whole.

    What is left at the end under the temporary name is removed, and before it whatever dead
    processes have left in the folder. A locked file beside it says that its owner lives: locking
    the thing itself would keep it from being renamed on Windows.

    Raises:
        OSError: nothing can be made there.
    """
    sweep(path.parent)
    place, lock = _claim(path)
    try:
        yield place
    finally:
        _remove(place)
        if lock is not None:
            _give_up(lock, _lock_of(place))


def sweep(folder: Path) -> None:
    """Remove what processes have left in `folder` that died while they wrote.

    It is ours by its name, and nobody's if its lock is free: the system gives up a lock with its
    process, whatever a process of that number may be in another container. Where the file
    system has no locks nothing is removed.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        names = [entry.name for entry in entries if _LOCK_NAME.fullmatch(entry.name)]
        for name in names:
            with suppress(OSError):
                _sweep_one(folder / name)


def _sweep_one(lock_path: Path) -> None:
    lock = try_lock(lock_path)
    if lock is not None:
        _remove(lock_path.with_name(lock_path.name.removesuffix(_LOCK_SUFFIX) + SUFFIX))
        _give_up(lock, lock_path)


def _claim(path: Path) -> tuple[Path, BaseFileLock | None]:
    """A name that nobody has, and its lock; no lock where there are none: none sweeps there."""
    while True:
        # The process is for people to read: its number says nothing in another container.
        name = f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        place = path.with_name(name)
        lock_path = _lock_of(place)
        try:
            lock = try_lock(lock_path)
        except OSError:
            if not lock_path.exists():
                raise
            _remove(lock_path)
            return place, None
        if lock is not None:  # another process's sweep was not faster
            return place, lock


def _lock_of(place: Path) -> Path:
    return place.with_name(place.name.removesuffix(SUFFIX) + _LOCK_SUFFIX)


def _give_up(lock: BaseFileLock, path: Path) -> None:
    """Its name is used once: whoever locks it from now on finds nothing to remove."""
    with suppress(OSError):
        lock.release()
    _remove(path)


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        with suppress(OSError):
            place.unlink(missing_ok=True)
