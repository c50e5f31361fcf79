"""Disks that are full, read-only, or fail at a chosen call."""

from __future__ import annotations

import ctypes
import errno
import io
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sortednet_cli.storage.temporary import SUFFIX


class FailingDisk:
    """Counts the calls that write below a folder, and fails the one of a given number.

    They are: making files and folders, each write, fsync, and renaming. Removing always works.

    Args:
        stays: whether every call after the first failing one fails too, as on a full disk.
    """

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, *, stays: bool) -> None:
        self._folder, self._stays = str(folder.resolve()), stays
        self._left: int | None = None
        self.fired = False
        for name, flag in (("open", os.O_CREAT), ("mkdir", 0), ("replace", 0), ("rename", 0)):
            patch.setattr(os, name, self._failing(getattr(os, name), flag))
        patch.setattr(os, "fsync", self._fsync)
        patch.setattr(io, "open", self._open)
        patch.setattr("builtins.open", self._open)

    @contextmanager
    def fails_at(self, number: int) -> Iterator[FailingDisk]:
        """Fail the call of that number, counted from 1."""
        self._left = number
        try:
            yield self
        finally:
            self.fired, self._left = self._left <= 0, None

    def count(self, path: object) -> None:
        """Note a call on `path`; OSError if it is the one to fail."""
        if self._left is None or not isinstance(path, str | os.PathLike):
            return
        if not os.path.realpath(os.fspath(path)).startswith(self._folder):
            return
        self._left -= 1
        if self._left == 0 or (self._stays and self._left < 0):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def _failing(self, call: Callable[..., Any], flag: int) -> Callable[..., Any]:
        def failing(path: Any, *rest: Any, **others: Any) -> Any:
            # A folder that is there already needs no room: mkdir fails anyhow, and is forgiven.
            if (rest and rest[0] & flag) if flag else not (call is _MKDIR and Path(path).is_dir()):
                self.count(path)
            return call(path, *rest, **others)

        return failing

    def _fsync(self, descriptor: int) -> None:
        """Only counted: what is really on the disk cannot be seen from here, and takes long."""
        self.count(Path(f"/proc/self/fd/{descriptor}").readlink())

    def _open(self, file: Any, mode: str = "r", *rest: Any, **others: Any) -> Any:
        if not set(mode) & set("wax+") or isinstance(file, int):
            return _PLAIN_OPEN(file, mode, *rest, **others)
        self.count(file)
        raw = io.FileIO(file, mode.replace("b", "").replace("t", ""))
        buffered = _Writer(raw, self, file)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, encoding=others.get("encoding"))


_PLAIN_OPEN, _MKDIR = io.open, os.mkdir


class _Writer(io.BufferedWriter):
    def __init__(self, raw: io.FileIO, disk: FailingDisk, path: object) -> None:
        super().__init__(raw)
        self._disk, self._path = disk, path

    def write(self, content: Any) -> int:
        self._disk.count(self._path)
        return super().write(content)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Let `folder` hold so many bytes; where nothing may be mounted, a sixteenth in any file."""
    folder.mkdir(exist_ok=True)
    if not _mounted("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 16, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        return
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nothing in `folder` be written, not even by root where mounting is allowed."""
    path = str(folder)
    if _mounted("--bind", path, path) and _mounted("-o", "remount,bind,ro", path):
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", path], check=True)
        return
    places = [folder, *folder.rglob("*")]
    for place in places:
        place.chmod(0o555 if place.is_dir() else 0o444)
    try:
        with _bound_by_modes():
            yield
    finally:
        for place in places:
            place.chmod(0o755 if place.is_dir() else 0o644)


@contextmanager
def _bound_by_modes() -> Iterator[None]:
    """Take root's right to pass over permissions from this thread (capabilities(7))."""
    libc = ctypes.CDLL(None)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    effective = sets[0]
    sets[0] = effective & ~(1 << _CAP_DAC_OVERRIDE)
    libc.capset(header, sets)
    try:
        yield
    finally:
        sets[0] = effective
        libc.capset(header, sets)


_CAP_DAC_OVERRIDE = 1


def _mounted(*words: str) -> bool:
    try:
        return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def strays(folder: Path) -> list[str]:
    """Temporary files and folders that are left anywhere below a folder."""
    return [str(path.relative_to(folder)) for path in folder.rglob(f".*{SUFFIX}")]
