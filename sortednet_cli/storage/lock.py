"""One writer at a time: a lock on a folder that ends with the process that holds it."""

from __future__ import annotations

import errno
import os
import platform
import stat
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from sortednet_cli.errors import RequestError, WorkError
from sortednet_cli.logs import logger

LOCK = ".lock"
HOLDER = ".lock-holder"
"""Who holds the lock, for people: on Windows nobody else can read a locked file."""

_PAUSE_SECONDS = 0.05
_NAMING_SECONDS = 1.0


@contextmanager
def held(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold a folder for writing.

    The system takes the lock back when the process ends, however it ends.

    Args:
        patience: seconds to wait for another process that holds it.

    Raises:
        RequestError: another process holds it; it is named.
        WorkError: the folder cannot be written.
    """
    lock, holder = _locked(folder, patience), folder / HOLDER
    try:
        with _writing(folder):
            holder.write_text(f"process {os.getpid()} on {platform.node()}\n", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
        with suppress(OSError):
            lock.release()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WorkError(f"cannot write into {folder}: {error.strerror or error}") from error


def try_lock(path: Path, patience: float = 0.0, *, stand_in: bool = False) -> BaseFileLock | None:
    """Lock a file, which is made for it; None if another process holds it.

    Args:
        patience: seconds to wait for another process that holds it.
        stand_in: where the file system has no locks, let the file itself stand for one. It then
            outlives its process, until somebody on the same machine finds that process dead.

    Raises:
        OSError: the file cannot be made, or cannot be locked.
    """
    if not stat.S_ISDIR(path.parent.stat().st_mode):  # a missing one would be made
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent))
    lock = FileLock(path, fallback_to_soft=stand_in)
    try:
        return lock.acquire(patience, _PAUSE_SECONDS).lock
    except Timeout:
        return None


def _locked(folder: Path, patience: float) -> BaseFileLock:
    path = folder / LOCK
    # The first look may have met a folder that was replaced meanwhile: take a second one.
    patience = max(patience, _PAUSE_SECONDS)
    with _writing(folder), warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", UserWarning)
        lock = try_lock(path, patience, stand_in=True)
    if lock is None:
        raise RequestError(f"{folder} is being written by {_holder(folder)}")
    if any(warning.category is UserWarning for warning in found):
        logger.warning(
            "the file system of %s has no locks: %s stands for one; remove it if a process on"
            " another machine has died and left it",
            folder,
            path,
        )
    return lock


def _holder(folder: Path) -> str:
    """Who wrote their name into the folder, once it is no longer that of a dead predecessor."""
    deadline = time.monotonic() + _NAMING_SECONDS
    while time.monotonic() < deadline:
        try:
            words = (folder / HOLDER).read_text(encoding="utf-8", errors="replace").split()
        except FileNotFoundError:
            words = []
        except OSError:
            break
        if len(words) == 4 and words[1].isdigit():
            name, number, _, host = words
            if host != platform.node():
                return f"{name} {number} on {host}"
            if _lives(int(number)):
                return f"{name} {number}"
        time.sleep(_PAUSE_SECONDS)
    return "another process"


def _lives(number: int) -> bool:
    if sys.platform == "win32":
        return True  # not known to be dead: there, os.kill(number, 0) would interrupt it
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it lives, and is another user's
    return True
