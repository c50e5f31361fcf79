"""Temporary names beside the final ones, each with a lock that shows whether its owner lives."""

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
    """Yield an unused name beside `path`, for a file or folder that will be renamed to `path`.

    Whatever still has the temporary name at the end is removed. At the start, leftovers of dead
    processes in the same folder are removed. A separate lock file shows that the owner lives:
    Windows would not rename the file itself while it is locked.

    Raises:
        OSError: no file can be created there.
    """
    sweep(path.parent)
    staging, lock = _claim(path)
    try:
        yield staging
    finally:
        _remove(staging)
        if lock is not None:
            _release(lock, _lock_of(staging))


def sweep(folder: Path) -> None:
    """Remove what processes that died while writing have left in `folder`.

    The name's suffix shows that this package wrote it. A free lock shows that its owner is dead,
    because the system releases a lock with its process; a process number would prove nothing
    across containers. On a file system without locks nothing is removed.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        names = [entry.name for entry in entries if _LOCK_NAME.fullmatch(entry.name)]
        for name in names:
            with suppress(OSError):
                _sweep_one(folder / name)


def _sweep_one(lock_path: Path) -> None:
    lock = try_lock(lock_path, check=False)
    if lock is not None:
        _remove(lock_path.with_name(lock_path.name.removesuffix(_LOCK_SUFFIX) + SUFFIX))
        _release(lock, lock_path)


def _claim(path: Path) -> tuple[Path, BaseFileLock | None]:
    """Return an unused name and its lock, or None for the lock if the file system has none."""
    while True:
        # The process number helps people only; another container may use the same number.
        name = f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        staging = path.with_name(name)
        lock_path = _lock_of(staging)
        try:
            lock = try_lock(lock_path)
        except OSError:
            if not lock_path.exists():
                raise
            _remove(lock_path)
            return staging, None
        if lock is not None:
            return staging, lock
        _sweep_one(lock_path)  # another process's sweep took it first: try another name


def _lock_of(staging: Path) -> Path:
    return staging.with_name(staging.name.removesuffix(SUFFIX) + _LOCK_SUFFIX)


def _release(lock: BaseFileLock, path: Path) -> None:
    """Release and remove a lock file. Its name is never reused, so a late sweep finds nothing."""
    with suppress(OSError):
        lock.release()
    _remove(path)


def _remove(staging: Path) -> None:
    if staging.is_dir():
        shutil.rmtree(staging, ignore_errors=True)
    else:
        with suppress(OSError):
            staging.unlink(missing_ok=True)
