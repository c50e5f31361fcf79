"""Files and folders that appear whole or not at all."""

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

_NO_PLACE = (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)
"""Reasons for which a folder of that name can never be: the name was wrong, not the moment."""

_WINDOWS = sys.platform == "win32"
"""There a file that someone has open, or has mapped into memory, keeps its name and its place; and
folders cannot be opened, so that nothing waits for their names to be on disk."""

_PATIENCE_SECONDS = 5.0
_PAUSE_SECONDS = 0.02


class Taken(RequestError):
    """The name of a new folder is in use: it was before, or another process was faster."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` only once it is written and on disk.

    Raises:
        WorkError: the file cannot be written; `path` is then as it was.
    """
    with writing(path), temporary(path) as place:
        with place.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _patiently(lambda: place.replace(path))
        sync(path.parent)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell what keeps `path` from being written in one message: WorkError."""
    try:
        yield
    except OSError as error:
        raise WorkError(f"cannot write {path}: {error.strerror or error}") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole."""
    with replacing(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_bytes(path: Path) -> bytes:
    """Read a file; RequestError if that cannot be."""
    try:
        return read_bounded(path, MAX_JSON)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; RequestError if the file is missing or is not one."""
    return parse_json(read_bytes(path), path)


def parse_json(content: bytes, path: Path) -> dict[str, Any]:
    """Parse what was read from `path` as a JSON object; RequestError if it is none."""
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
    """Fill a folder beside `path` and give it that name at the end, or leave nothing.

    All that is in it is on disk by then, whoever wrote it.

    Raises:
        Taken: `path` exists, at the start or at the end.
        RequestError: no folder can ever have that name.
        WorkError: the folder cannot be written.
    """
    require_free(path)
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        with writing(path), ExitStack() as stack:
            with _possible(path):
                with suppress(FileExistsError):
                    path.parent.mkdir(parents=True)
                staging = stack.enter_context(temporary(path))
                staging.mkdir()
            with _named(staging, path):
                yield staging
            for part in staging.rglob("*"):
                sync(part)
            sync(staging)
            _require_absent(path)
            _rename(staging, path)
            for folder in (path, *made):
                sync(folder.parent)
    finally:
        if not path.exists():
            for folder in made:
                with suppress(OSError):
                    folder.rmdir()


def free_name(path: Path) -> Path:
    """Return `path`, or the first of `path-2`, `path-3`, ... that does not exist."""
    candidate, number = path, 2
    while candidate.exists():
        candidate, number = path.with_name(f"{path.name}-{number}"), number + 1
    return candidate


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    if _WINDOWS and path.is_dir():
        return
    # Windows syncs what may be written alone.
    descriptor = os.open(path, os.O_RDWR if _WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # CIFS and shared folders of virtual machines have no sync of names and say EINVAL.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def require_free(path: Path) -> None:
    """See that a new folder can have a name.

    Raises:
        Taken: `path` exists.
        RequestError: it would lie in what is no folder.
    """
    _require_absent(path)
    parent = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not parent.is_dir():
        raise RequestError(f"cannot write into {path.parent}: {os.strerror(errno.ENOTDIR)}")


def _require_absent(path: Path) -> None:
    if os.path.lexists(path):
        raise _taken(path)


def _rename(staging: Path, path: Path) -> None:
    try:
        _patiently(lambda: staging.rename(path))
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise _taken(path) from error  # another process was faster
        raise


def _patiently(rename: Callable[[], object]) -> None:
    """Rename; on Windows once nobody has the file open any more, as readers have for a moment."""
    try:
        rename()
        return
    except PermissionError:
        if not _WINDOWS:
            raise
    gc.collect()  # tensors of ours that nothing refers to any more may map it
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            rename()
            return
        except PermissionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_SECONDS)


def _taken(path: Path) -> Taken:
    return Taken(f"{path} exists; choose another --out or remove it")


@contextmanager
def _possible(path: Path) -> Iterator[None]:
    """RequestError if no folder can ever have that name."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        raise RequestError(f"cannot write into {path.parent}: {error.strerror}") from error


@contextmanager
def _named(staging: Path, path: Path) -> Iterator[None]:
    """Errors speak of the folder by the name that it was to have."""
    try:
        yield
    except SortednetError as error:
        error.args = (str(error).replace(str(staging), str(path)),)
        raise
