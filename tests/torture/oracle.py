"""One command in a child of a warm process, and what is said against how it ended."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sortednet_cli.cli.main import run
from tests.commands import listing

SECONDS = 60
"""Of processor time for a case, and three times as many on the clock."""

MEMORY = 3 << 30
"""Bytes of address space that a case may take beyond the warm process's own."""

_WARNING = re.compile(r"^.*\.py:\d+: \w*Warning", re.MULTILINE)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, or minus the signal that killed it."""

    code: int
    out: str
    err: str
    seconds: float


def run_forked(arguments: Sequence[str], folder: Path, talk: Path) -> Ended:
    """Run a command in `folder` under bounds of time and memory; its streams go into `talk`."""
    sys.stdout.flush()
    sys.stderr.flush()
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        _be_the_command(arguments, folder, talk)
    _, status = os.waitpid(child, 0)
    seconds = time.perf_counter() - start
    texts = [(talk / name).read_text(errors="replace") for name in ("out", "err")]
    return Ended(os.waitstatus_to_exitcode(status), *texts, seconds)


def _be_the_command(arguments: Sequence[str], folder: Path, talk: Path) -> None:
    code = 99
    try:
        os.setsid()
        os.chdir(folder)
        for number, name in ((1, "out"), (2, "err")):
            file = os.open(talk / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(  # noqa: SIM115
            2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
        )
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(3 * SECONDS)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = _address_space() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        code = run(arguments)
        sys.stdout.flush()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def complaint(
    ended: Ended, before: dict[str, str], folder: Path, *, writes: bool = False
) -> str | None:
    """What is wrong with how a command ended, if anything.

    Args:
        before: `listing(folder)` when it started.
        writes: the command changes its input when it ends well: it goes on with a run.
    """
    return next(_of_streams(ended), None) or next(_of_files(ended, before, folder, writes), None)


def _of_streams(ended: Ended) -> Iterator[str]:
    if ended.code < 0:
        yield f"killed by {signal.Signals(-ended.code).name} after {ended.seconds:.0f} s"
    if ended.code not in (0, 1, 2):
        yield f"exit code {ended.code}"
    if "Traceback" in ended.err or "panicked" in ended.err:
        yield "a traceback"
    if "out of memory" in ended.err:
        yield "more memory than it may have"
    if _WARNING.search(ended.err):
        yield "a warning of Python's"
    if any(not (char.isprintable() or char == "\n") for char in ended.err):
        yield "control characters on stderr"
    count = len(re.findall(r"^error:", ended.err, re.IGNORECASE | re.MULTILINE))
    if ended.code and count != 1:
        yield f"{count} messages of an error"
    if ended.code and ended.out:
        yield "data on stdout"


def _of_files(ended: Ended, before: dict[str, str], folder: Path, writes: bool) -> Iterator[str]:
    if ended.code == 0 and writes:
        return
    after = {name: digest for name, digest in listing(folder).items() if not _is_lock(name)}
    for name, digest in before.items():
        if not _is_lock(name) and after.get(name) != digest:
            yield f"changed {name}"
    if ended.code == 0:
        return
    new = after.keys() - before.keys()
    # A training that met bad data after its first update has begun a run: one can go on with it.
    begun = tuple(name.removesuffix("run.json") for name in new if name.endswith("/run.json"))
    for name in sorted(new):
        if not f"{name}/".startswith(begun):
            yield f"left {name} behind"


def _is_lock(name: str) -> bool:
    return name.endswith("/.lock")


def fresh(template: Path, parts: Sequence[str], folder: Path) -> Path:
    """A working folder with copies of some of the template's files and folders."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part in parts:
        target = folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (template / part).is_dir():
            shutil.copytree(template / part, target)
        else:
            shutil.copyfile(template / part, target)
    return folder
