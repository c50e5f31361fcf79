"""One thread in all tests: outputs of views and copies are then equal bit for bit."""

from __future__ import annotations

import functools
import logging
import os
import resource
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sortednet_cli.engine.training import measured
from sortednet_cli.engine.training.measured import Way
from sortednet_cli.logs import logger
from tests.commands import FASTER, TINY, command
from tests.pico import PICOS, Pico
from tests.warm import Server

# Whatever this machine has: tests mean the CPU, in this process and in those they start.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["SORTEDNET_DEVICE"] = "cpu"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _hangs_up() -> None:
    """Tests may be run under `nohup`, whose answer to SIGHUP commands would inherit and respect."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True, scope="session")
def _timed() -> Iterator[None]:
    """No clock chooses what a training computes in: two trainings of a test choose alike."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured, "time_passes", _as_if_timed)
        yield


def _as_if_timed(*arguments: Any) -> dict[Way, float]:
    """bf16, where the processor has it, in the default format."""
    ways: Sequence[Way] = arguments[-1]
    chosen = next(way for way in ways if way.precision == ways[-1].precision)
    return {way: 1.0 if way == chosen else 2.0 for way in ways}


@pytest.fixture(autouse=True, scope="session")
def _warm(_one_thread: None, _hangs_up: None, _timed: None) -> Iterator[None]:
    """Commands that start at once, in copies of this process as it is before the first test."""
    server = Server()
    FASTER.append(server.programs)
    yield
    FASTER.clear()
    server.close()


@pytest.fixture(autouse=True)
def _logs_as_imported() -> None:
    """A command that ran in this process has taken the logger for itself."""
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


@pytest.fixture(params=sorted(PICOS))
def pico(request: pytest.FixtureRequest) -> Pico:
    return PICOS[request.param]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny finished run of the digits; copy it before changing it."""
    folder, before = tmp_path_factory.mktemp("trained"), Path.cwd()
    os.chdir(folder)
    try:
        done = command("train", *TINY, "--quiet")
    finally:
        os.chdir(before)
    assert (done.code, done.err) == (0, ""), done
    return folder / done.out.strip()


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; caches lie elsewhere."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SORTEDNET_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def home(work: Path, trained: Path) -> Path:
    """A working folder with the finished run `runs/digits-resnet`."""
    shutil.copytree(trained, work / "runs" / trained.name)
    return work


@pytest.fixture
def little_memory() -> Iterator[None]:
    """1.25 GiB more than now are enough for every refusal."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (5 << 28), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A compiler that does everything but make machine code, which takes most of the time."""
    from torch._dynamo.utils import counters  # takes seconds

    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    yield
    torch._dynamo.reset()
