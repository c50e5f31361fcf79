"""Jobs of two processes whose launcher is killed: the processes end by themselves."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.torture.cases import CASES, UPDATES
from tests.torture.ends import differences

_WORDS = ["train", *CASES[0].arguments, "--out", "run"]
_MANY = 150
"""Updates of a job, enough for a kill to come in time."""


def launcher_kills(place: Path, count: int, seed: int) -> tuple[int, list[str]]:
    """Kill launchers at random moments; return how many, and what went wrong."""
    draw, wrong, kills = random.Random(f"{seed} launcher"), list[str](), 0
    whole = place / "whole"
    whole.mkdir(parents=True)
    start = time.monotonic()
    assert launch(whole, _begin()).wait() == 0, (whole / "talk.txt").read_text()
    seconds = time.monotonic() - start
    for number in range(count):
        folder = place / str(number)
        folder.mkdir()
        job = launch(folder, _begin())
        # Some after the first update, some at any time.
        if number % 2 == 0:
            wait_for_updates(folder, job, 1)
        time.sleep(draw.uniform(0, 0.3 if number % 2 == 0 else seconds))
        kills += kill_launcher(job)
        words = ["train", "--resume", "run"] if (folder / "run").exists() else _begin()
        state = folder / "run" / "run.json"
        if not state.exists() or '"finished",' not in state.read_text():
            code = launch(folder, words).wait()
            if code:
                wrong.append(f"{folder.name}: exit code {code}: {_talk(folder)}")
                continue
        found = differences(folder / "run", whole / "run", _MANY)
        wrong += [f"{folder.name}: {text}" for text in found]
    return kills, wrong


def kill_launcher(job: subprocess.Popen[bytes], seconds: float = 60) -> int:
    """Kill a launcher and wait for its processes to leave; 0 if it had ended before."""
    workers = processes(job.pid)
    job.kill()
    killed = int(job.wait() == -signal.SIGKILL)
    deadline = time.monotonic() + seconds
    while any(_lives(worker) for worker in workers):
        assert time.monotonic() < deadline, "processes go on without their launcher"
        time.sleep(0.05)
    return killed


def launch(folder: Path, words: list[str]) -> subprocess.Popen[bytes]:
    """Start a job of two processes in a folder."""
    torchrun = Path(sys.executable).with_name("torchrun")
    arguments = ["--standalone", "--nproc-per-node=2", "-m", "sortednet_cli", *words]
    with (folder / "talk.txt").open("ab") as talk:
        return subprocess.Popen([torchrun, *arguments], cwd=folder, stdout=talk, stderr=talk)


def wait_for_updates(folder: Path, job: subprocess.Popen[bytes], count: int) -> None:
    """Wait until a job has logged so many updates."""
    deadline = time.monotonic() + 300
    while _updates(folder) < count:
        assert job.poll() is None and time.monotonic() < deadline, _talk(folder)
        time.sleep(0.01)


def processes(launcher: int) -> list[int]:
    """The processes that a launcher has started."""
    try:
        found = Path(f"/proc/{launcher}/task/{launcher}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in found.split()]


def _begin() -> list[str]:
    updates = f"--set=train.updates={UPDATES}"
    return [f"--set=train.updates={_MANY}" if word == updates else word for word in _WORDS]


def _updates(folder: Path) -> int:
    try:
        return (folder / "run" / "metrics.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0


def _talk(folder: Path) -> str:
    return (folder / "talk.txt").read_text()[-600:]


def _lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    # What nobody waits for stays as a zombie where no init process collects it.
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
