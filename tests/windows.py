"""What Windows lacks and refuses, as far as another system can play it.

`python -X warn_default_encoding -m tests.windows FOLDER` imports every module of the package
without what POSIX alone has, then runs commands in a folder.
"""

from __future__ import annotations

import errno
import importlib
import os
import pkgutil
import signal
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

POSIX_MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty")
SIGNALS = ("SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIGKILL")
"""Those of Windows, and one that torch takes for granted on any other system."""


def take_away() -> None:
    """Remove modules and signals that Windows does not have."""
    with suppress(ImportError):
        importlib.import_module("psutil")  # its module for Windows needs none of them
    for name in POSIX_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for name in dir(signal):
        if name.startswith("SIG") and name[3].isalpha() and name not in SIGNALS:
            delattr(signal, name)


def import_all() -> None:
    """Import every module, from now on with an encoding named wherever text is opened."""
    import sortednet_cli

    warnings.simplefilter("ignore", EncodingWarning)
    warnings.filterwarnings("error", category=EncodingWarning, module="sortednet_cli")
    for module in pkgutil.walk_packages(sortednet_cli.__path__, "sortednet_cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def refuse() -> None:
    """Refuse what Windows refuses."""
    from sortednet_cli.storage import files

    files._WINDOWS = True
    files._PATIENCE_SECONDS = 0.2
    for name in ("rename", "replace", "unlink"):
        setattr(os, name, _unless_held(getattr(os, name)))
    opened, synced = os.open, os.fsync

    def open_file(path: Any, flags: int, *more: Any, **named: Any) -> int:
        descriptor = opened(path, flags, *more, **named)
        if "dir_fd" in named or not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise PermissionError(errno.EACCES, "a folder cannot be opened", str(path))

    def sync_file(descriptor: int) -> None:
        facts = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="utf-8").split()
        if int(facts[facts.index("flags:") + 1], 8) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "only what is open for writing can be synced")
        synced(descriptor)

    def kill(*_: int) -> None:
        raise AssertionError("there, os.kill ends a process whatever it sends")

    os.open, os.fsync, os.kill = open_file, sync_file, kill


def _unless_held(call: Callable[..., Any]) -> Callable[..., Any]:
    """A file that is open or mapped keeps its name, and so do the folders around it."""

    def checked(*paths: Any, dir_fd: int | None = None) -> Any:
        folder = Path() if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}").readlink()
        places = [str((folder / os.fsdecode(path)).absolute()) for path in paths]
        for held in _held():
            if any(f"{held}/".startswith(f"{place}/") for place in places):
                raise PermissionError(errno.EACCES, f"{held} is open or mapped", str(paths[0]))
        return call(*paths) if dir_fd is None else call(*paths, dir_fd=dir_fd)

    return checked


def _held() -> Iterator[str]:
    """Files that this process has open or mapped."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            yield str(entry.readlink())
        except OSError:
            continue  # it was this very listing
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        if "/" in line:
            yield line[line.index("/") :]


def run_commands() -> None:
    """Train, go on, cut and calibrate, in the working folder."""
    import torch

    from tests.cli.test_generate import PICO
    from tests.commands import TINY, command
    from tests.sealing import unfinished

    torch.set_num_threads(1)
    adamw = ("--set=train.optimizer=adamw", "--set=train.updates=2", "--out=adamw")
    for words in (
        ("train", *TINY, *adamw),
        ("train", "--resume", "adamw"),
        ("info", "--check", "adamw"),
        ("extract", "adamw", "--width=0.5", "--depth=1", "--out=cut"),
        ("train", *PICO, "--out=texts"),
        ("extract", "texts", "--depth=2", "--out=words"),
        ("generate", "words", "--calibrate"),
        ("info", "--check", "words"),
    ):
        if "--resume" in words:
            spec = Path("adamw/spec.toml")
            spec.write_text(spec.read_text().replace("updates = 2", "updates = 4"))
            unfinished(Path("adamw"))
        done = command(*words, "--quiet")
        assert (done.code, done.err) == (0, ""), (words, done)


if __name__ == "__main__":
    take_away()
    import_all()
    refuse()
    os.chdir(sys.argv[1])
    run_commands()
