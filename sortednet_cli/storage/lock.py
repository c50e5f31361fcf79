"""One writer at a time: a lock on a folder that ends with the process that holds it."""

from __future__ import annotations

import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from sortednet_cli.errors import RequestError, WorkError

LOCK = ".lock"

_PAUSE_SECONDS = 0.05
_NAMING_SECONDS = 1.0


@contextmanager
def held(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold a folder for writing.

    The system takes the lock back when the process ends, however it ends; the name in the file
    is only for people.

    Args:
        patience: seconds to wait for another process that holds it.

    Raises:
        RequestError: another process holds it; it is named.
        WorkError: the folder cannot be written.
    """
    with _locked(folder, patience) as file:
        with suppress(OSError):  # a full disk: the lock holds without its holder's name
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"process {os.getpid()} on {platform.node()}\n".encode())
        yield


def _locked(folder: Path, patience: float) -> TextIO:
    path, deadline = folder / LOCK, time.monotonic() + patience
    while (file := _try(path)) is None:
        if time.monotonic() >= deadline:
            raise RequestError(f"{folder} is being written by {_holder(path)}")
        time.sleep(_PAUSE_SECONDS)
    return file


def _try(path: Path) -> TextIO | None:
    """Open the file and lock it; None if another process holds it."""
    while True:
        try:
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise WorkError(f"cannot write into {path.parent}: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if isinstance(error, BlockingIOError):
                return None
            raise WorkError(f"cannot lock {path}: {error.strerror}") from error
        if _is_at(file, path):
            return file
        file.close()


def _is_at(file: TextIO, path: Path) -> bool:
    """Whether the folder is still the one that the file was opened in."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    """Who wrote their name into the file, once it is no longer that of a dead predecessor."""
    deadline = time.monotonic() + _NAMING_SECONDS
    while time.monotonic() < deadline:
        try:
            words = path.read_text(encoding="utf-8", errors="replace").split()
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
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it lives, and is another user's
    return True
