"""Commands in processes that can be killed: forked from this warm one, or started afresh."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sortednet_cli.cli.main import run
from sortednet_cli.storage.run import RunFolder
from tests.torture.cases import UPDATES

TALK = "talk.txt"
SECONDS = 300

_CALLS = ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir")
"""What changes the names of files or brings them to disk: a kill between two of them is seen."""


@dataclass
class Child:
    """A process that this one started: `code` is set once it has ended."""

    number: int
    code: int | None = None

    def poll(self) -> int | None:
        if self.code is None:
            number, status = os.waitpid(self.number, os.WNOHANG)
            if number:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def kill(self) -> bool:
        """Kill it; whether it was still there to be killed."""
        if self.poll() is None:
            os.kill(self.number, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    def wait(self, seconds: float = SECONDS) -> int:
        deadline = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > deadline:
                os.kill(self.number, signal.SIGKILL)
                raise AssertionError(f"process {self.number} did not end")
            time.sleep(0.001)
        assert self.code is not None
        return self.code


def fork(folder: Path, words: list[str], prepare: Callable[[], object] = lambda: None) -> Child:
    """Run a command in `folder`, in a copy of this process that has everything imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        number = os.fork()
    if number:
        return Child(number)
    code = 70
    try:
        os.chdir(folder)
        talk = Path(TALK).open("a")  # noqa: SIM115 (the process ends with it)
        sys.stdout = sys.stderr = talk
        for target in (1, 2):
            os.dup2(talk.fileno(), target)
        prepare()
        code = run(words)
        talk.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def begin(folder: Path, words: list[str]) -> Child:
    """Run the real command in `folder`."""
    with (folder / TALK).open("a") as talk:
        process = subprocess.Popen(
            [sys.executable, "-m", "sortednet_cli", *words], cwd=folder, stdout=talk, stderr=talk
        )
    process.returncode = 0  # `Child` waits for it
    return Child(process.pid)


def kill_at_call(wanted: int) -> None:
    """In a child: die just before the `wanted`-th call that changes files."""

    def kill(count: int) -> None:
        if count == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    _count(kill)


def count_calls(file: Path) -> None:
    """In a child: keep the number of calls that change files so far in a file."""
    _count(lambda count: file.write_text(str(count)))


def _count(tell: Callable[[int], object]) -> None:
    numbers = itertools.count(1)

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def counting(*arguments: object, **named: object) -> object:
            tell(next(numbers))
            return call(*arguments, **named)

        return counting

    for name in _CALLS:
        setattr(os, name, counted(getattr(os, name)))


def kill_in_log(wanted: int) -> None:
    """In a child: die with half of the `wanted`-th line of the metrics written."""
    count, whole = 0, RunFolder.log

    def log(self: RunFolder, entry: dict[str, object]) -> None:
        nonlocal count
        count += 1
        whole(self, entry)
        if count == wanted:
            written = self.metrics.read_bytes()
            last = written.rstrip(b"\n").rfind(b"\n") + 1
            os.truncate(self.metrics, (last + len(written)) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    RunFolder.log = log  # type: ignore[method-assign, assignment]


def moments(folder: Path, seconds: float, draw: random.Random) -> dict[str, Callable[[], bool]]:
    """Kinds of moments to kill at, each a test of whether it has come."""
    run, born = folder / "run", time.monotonic()
    delay, until = draw.uniform(0, 0.01), draw.uniform(0, seconds)
    before = _lines(run)
    wanted = draw.randint(before + 1, UPDATES) if before < UPDATES else UPDATES
    later: list[float] = []

    def soon(seen: bool, wait: float) -> bool:
        if seen and not later:
            later.append(time.monotonic() + wait)
        return bool(later) and time.monotonic() >= later[0]

    return {
        "any time": lambda: time.monotonic() - born > until,
        "inside a checkpoint": lambda: soon(
            _lines(run) >= wanted and any(run.glob("checkpoints/.step-*")), delay / 10
        ),
        "while scoring": lambda: soon(
            (run / "checkpoints" / f"step-{UPDATES}").exists(), seconds * delay * 20
        ),
        "while finishing": lambda: soon(
            any(run.glob(".weights*")) or (run / "weights.safetensors").exists(), delay / 5
        ),
    }


def _lines(run: Path) -> int:
    try:
        return (run / "metrics.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0
