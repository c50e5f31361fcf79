"""One writer at a time: a folder's lock, released when the process that holds it ends."""

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
"""Names the lock's holder in messages. On Windows, others cannot read the locked file itself."""

_PAUSE_SECONDS = 0.05
_NAMING_SECONDS = 1.0


@contextmanager
def write_lock(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Lock a folder for writing.

    The operating system releases the lock when the process ends, however it ends.

    Args:
        patience: seconds to wait for another process that holds it.

    Raises:
        RequestError: another process holds the lock; the message names it.
        WorkError: the folder cannot be written.
    """
    lock, holder = _acquire(folder, patience), folder / HOLDER
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


def try_lock(
    path: Path, patience: float = 0.0, *, fallback: bool = False, check: bool = True
) -> BaseFileLock | None:
    """Create and lock a file; None if another process holds the lock.

    Args:
        patience: seconds to wait for another process that holds it.
        fallback: on a file system without locks, let the file's existence be the lock. Such a
            lock outlives its process until another on the same machine finds that process dead.
        check: where the lock seems to be held, make sure that files can be created there. That
            may leave a file if the holder removes its own in that moment.

    Raises:
        OSError: the file cannot be created or locked.
    """
    # FileLock would create a missing folder.
    if not stat.S_ISDIR(path.parent.stat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent))
    lock = FileLock(path, fallback_to_soft=fallback)
    try:
        return lock.acquire(patience, _PAUSE_SECONDS).lock
    except Timeout:
        if check:
            _check_creatable(path)
        return None


def _check_creatable(path: Path) -> None:
    """OSError if no file can be created at `path`: `filelock` takes some for a lock that is held.

    A file made here stays: removing it could remove another process's lock.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))


def _acquire(folder: Path, patience: float) -> BaseFileLock:
    path = folder / LOCK
    # The folder may be replaced during the first attempt: allow a second one.
    patience = max(patience, _PAUSE_SECONDS)
    with _writing(folder), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        lock = try_lock(path, patience, fallback=True)
    if lock is None:
        raise RequestError(f"{folder} is being written by {_holder(folder)}")
    if any(warning.category is UserWarning for warning in caught):
        logger.warning(
            "the file system of %s has no locks, so the file %s serves as one; remove it if a"
            " process on another machine died and left it",
            folder,
            path,
        )
    return lock


def _holder(folder: Path) -> str:
    """Describe the lock's holder; wait a moment while the holder's file names a dead process."""
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
            if _is_alive(int(number)):
                return f"{name} {number}"
        time.sleep(_PAUSE_SECONDS)
    return "another process"


def _is_alive(number: int) -> bool:
    if sys.platform == "win32":
        return True  # cannot be tested: on Windows os.kill(number, 0) would interrupt it
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # alive, and owned by another user
    return True
