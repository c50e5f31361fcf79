"""Atomic writes: a file or folder appears complete or not at all."""

from __future__ import annotations

import errno
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from sortednet_cli.bounded import MAX_JSON, check_nesting, read_bounded
from sortednet_cli.errors import RequestError, SortednetError, WorkError
from sortednet_cli.storage.temporary import temporary

_WRONG_NAME = (
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,
    errno.ENOENT,
)
"""Errors that no retry can fix: no folder can have that name, or `/proc` and its like take none."""

_WINDOWS = sys.platform == "win32"
"""On Windows a file that is open or mapped into memory cannot be renamed or replaced, and a folder
cannot be opened, so its entries cannot be synced."""

_PATIENCE_SECONDS = 5.0
_PAUSE_SECONDS = 0.02


class PathExists(RequestError):
    """A new folder's path exists already; another process may have created it meanwhile."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` once it is complete and on disk.

    Raises:
        WorkError: the file cannot be written; `path` is unchanged.
    """
    with writing(path), temporary(path) as staging:
        with staging.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _retry(lambda: staging.replace(path))
        sync(path.parent)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError while writing `path` into a WorkError of one line."""
    try:
        yield
    except OSError as error:
        raise WorkError(f"cannot write {path}: {error.strerror or error}") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with replacing(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_bytes(path: Path) -> bytes:
    """Read a file; RequestError if it cannot be read."""
    try:
        return read_bounded(path, MAX_JSON)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; RequestError if the file is missing or is not one."""
    return parse_json(read_bytes(path), path)


def parse_json(content: bytes, path: Path) -> dict[str, Any]:
    """Parse content read from `path` as a JSON object; RequestError if it is not one."""
    try:
        value = json.loads(content.decode())
        check_nesting(value)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is damaged: it is not JSON") from error
    if not isinstance(value, dict):
        raise RequestError(f"{path} is damaged: it holds no JSON object")
    return value


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, and rename it to `path` at the end.

    All its content is synced to disk before the rename. After an error nothing is left.

    Raises:
        PathExists: `path` exists, at the start or at the end.
        RequestError: no folder can have that name.
        WorkError: the folder cannot be written.
    """
    require_creatable(path)
    new_parents = [folder for folder in path.parents if not folder.exists()]
    try:
        with writing(path), ExitStack() as stack:
            with _refusing_wrong_names(path):
                with suppress(FileExistsError):
                    path.parent.mkdir(parents=True)
                staging = stack.enter_context(temporary(path))
                staging.mkdir()
            with _errors_naming(path, staging):
                yield staging
            for part in staging.rglob("*"):
                sync(part)
            sync(staging)
            _require_absent(path)
            _rename(staging, path)
            for folder in (path, *new_parents):
                sync(folder.parent)
    finally:
        if not path.exists():
            for folder in new_parents:
                with suppress(OSError):
                    folder.rmdir()


def free_name(path: Path, suffix: str = "") -> Path:
    """Return `path`, or the first of `path-2`, `path-3`, ... that does not exist.

    Args:
        suffix: follows each of these names.
    """
    candidate, number = path.with_name(path.name + suffix), 2
    while candidate.exists():
        candidate, number = path.with_name(f"{path.name}-{number}{suffix}"), number + 1
    return candidate


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on disk."""
    if _WINDOWS and path.is_dir():
        return
    # Windows syncs only files that are open for writing.
    descriptor = os.open(path, os.O_RDWR if _WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # CIFS and shared folders of virtual machines cannot sync a folder and return EINVAL.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def require_creatable(path: Path) -> None:
    """Check that a new folder can be created at `path`.

    Raises:
        PathExists: `path` exists.
        RequestError: its parent is not a folder.
    """
    _require_absent(path)
    parent = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not parent.is_dir():
        raise RequestError(f"cannot write into {path.parent}: {os.strerror(errno.ENOTDIR)}")


def _require_absent(path: Path) -> None:
    if os.path.lexists(path):
        raise _path_exists(path)


def _rename(staging: Path, path: Path) -> None:
    try:
        _retry(lambda: staging.rename(path))
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise _path_exists(path) from error  # another process was faster
        raise


def _retry(rename: Callable[[], object]) -> None:
    """Rename a file or folder; on Windows, retry for a while if a reader has it open."""
    try:
        rename()
        return
    except PermissionError:
        if not _WINDOWS:
            raise
    gc.collect()  # unreferenced tensors of this process may still map the file
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            rename()
            return
        except PermissionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_SECONDS)


def _path_exists(path: Path) -> PathExists:
    return PathExists(f"{path} exists; choose another --out or remove it")


@contextmanager
def _refusing_wrong_names(path: Path) -> Iterator[None]:
    """Raise RequestError if no folder can have that name."""
    try:
        yield
    except OSError as error:
        if error.errno not in _WRONG_NAME:
            raise
        raise RequestError(f"cannot write into {path.parent}: {error.strerror}") from error


@contextmanager
def _errors_naming(path: Path, staging: Path) -> Iterator[None]:
    """Name the final path instead of the temporary one in error messages."""
    try:
        yield
    except SortednetError as error:
        error.args = (str(error).replace(str(staging), str(path)),)
        raise
