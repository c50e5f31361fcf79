"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from sortednet_cli.errors import RequestError, WorkError


class Taken(RequestError):
    """The name of a new folder is in use: it was before, or another process was faster."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` only once it is written and on disk.

    Raises:
        WorkError: the file cannot be written; `path` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise WorkError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; RequestError if the file is missing or is not one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise RequestError(f"{path} is damaged: it is not JSON") from error
    if not isinstance(value, dict):
        raise RequestError(f"{path} is damaged: it holds no JSON object")
    return value


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder beside `path` and give it that name at the end, or leave nothing.

    Raises:
        Taken: `path` exists, at the start or at the end.
        RequestError: its parent cannot hold a folder.
    """
    if path.exists() or path.is_symlink():
        raise _taken(path)
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        with suppress(FileExistsError):
            path.parent.mkdir(parents=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise RequestError(f"cannot write into {path.parent}: {error.strerror}") from error
    try:
        staging.chmod(0o755)
        yield staging
        _sync_folder(staging)
        if path.exists():
            raise _taken(path)
        try:
            staging.rename(path)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise _taken(path) from error
            raise WorkError(f"cannot create {path}: {error.strerror or error}") from error
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
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


def remove_unfinished(folder: Path) -> None:
    """Remove temporary files that killed writers left; only for who holds the folder's lock."""
    for file in folder.glob(".*.tmp"):
        with suppress(OSError):
            file.unlink()


def _taken(path: Path) -> Taken:
    return Taken(f"{path} exists; choose another --out or remove it")


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
