"""Signals at every stage of a command: nothing half-written, nothing saved is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sortednet_cli.engine.export.extract as extracting
import sortednet_cli.engine.training.start as starting
import sortednet_cli.storage.checkpoint as checkpoints
from sortednet_cli.cli import stops
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.engine.training import scoring
from sortednet_cli.engine.training import session as sessions
from sortednet_cli.engine.training.backends import replicated
from sortednet_cli.engine.training.micro_batch import MicroBatches
from sortednet_cli.storage.temporary import SUFFIX
from tests.commands import TINY, command, listing, shell, start

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
RUN = Path("run")


@pytest.fixture(autouse=True)
def _heeding(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `main` does, undone at the end."""
    before = {number: signal.getsignal(number) for number in stops.SIGNALS}
    monkeypatch.setattr(stops, "_seen", [])
    stops.stop_at_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _signalled(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *numbers: int, at: int = 1
) -> None:
    """Let these signals come at the `at`-th call of a function."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def function(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            for number in numbers:
                signal.raise_signal(number)
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, function)


def _train(*more: str, words: tuple[str, ...] = (*TINY, "--out=run")) -> Any:
    return command("train", *words, *more, "--quiet")


def _goes_on_to_the_same_end(trained: Path) -> None:
    done = command("train", "--resume", RUN, "--quiet")
    assert (done.code, done.err) == (0, "")
    for name in ("weights.safetensors", "statistics.safetensors", "frontier.json"):
        assert (RUN / name).read_bytes() == (trained / name).read_bytes(), name
    names = [[n for n in listing(run) if n != ".lock"] for run in (RUN, trained)]
    assert names[0] == names[1]


@SIGNALS
def test_before_the_run_exists(
    work: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    _signalled(monkeypatch, starting, "open_data", number)
    done = _train()
    assert (done.code, done.out) == (128 + number, "")
    assert done.err == "interrupted; nothing was left half-written\n"
    assert listing(work) == {}


@pytest.mark.parametrize(
    ("number", "owner", "name", "at"),
    [
        (signal.SIGINT, replicated, "init_network", 1),
        (signal.SIGTERM, MicroBatches, "add_gradients", 1),
        (signal.SIGINT, MicroBatches, "add_gradients", 2),
        (signal.SIGHUP, MicroBatches, "add_gradients", 2),
        (signal.SIGHUP, checkpoints, "write_tensors", 1),
        (signal.SIGTERM, scoring, "score", 1),
        (signal.SIGINT, scoring, "score", 2),
    ],
)
def test_the_first_signal_leaves_a_run_to_go_on_with(
    work: Path,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    owner: Any,
    name: str,
    at: int,
) -> None:
    with monkeypatch.context() as patch:
        _signalled(patch, owner, name, number, at=at)
        done = _train("--set=train.checkpoint_minutes=1e-6")
    assert (done.code, done.out) == (128 + number, ""), done
    assert done.err.count("\n") == 1 and "sortednet train --resume run" in done.err
    assert not [name for name in listing(RUN) if ".step-" in name or SUFFIX in name]
    assert (RUN / "checkpoints" / "latest").exists() == (name != "init_network")
    _goes_on_to_the_same_end(trained)


@pytest.mark.parametrize(
    ("first", "second", "owner", "name"),
    [
        (signal.SIGINT, signal.SIGINT, MicroBatches, "add_gradients"),
        (signal.SIGINT, signal.SIGTERM, checkpoints, "write_tensors"),
    ],
)
def test_a_second_one_stops_at_once_and_keeps_the_last_checkpoint(
    work: Path,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: signal.Signals,
    second: signal.Signals,
    owner: Any,
    name: str,
) -> None:
    at = 3  # the third micro-batch, and the first file of the second checkpoint
    with monkeypatch.context() as patch:
        _signalled(patch, owner, name, first, second, at=at)
        done = _train("--set=train.checkpoint_minutes=1e-6")
    assert (done.code, done.out) == (128 + second, ""), done
    assert "stopped at once; resume from the last checkpoint with" in done.err
    kept = "step-2" if name == "add_gradients" else "step-1"
    assert sorted(path.name for path in (RUN / "checkpoints").iterdir()) == ["latest", kept]
    _goes_on_to_the_same_end(trained)


def test_while_the_run_is_finished_it_is_finished(
    work: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _signalled(monkeypatch, sessions, "write_tensors", signal.SIGTERM)
    done = _train()
    assert (done.code, done.out) == (0, "run\n")
    weights = "weights.safetensors"
    assert (RUN / weights).read_bytes() == (trained / weights).read_bytes()


@pytest.mark.parametrize(
    ("number", "words", "owner", "name"),
    [
        (signal.SIGINT, ("extract", "--width=0.5"), extracting, "write_shards"),
        (signal.SIGTERM, ("extract", "--width=0.5", "--out=cut"), extracting, "write_text"),
        (signal.SIGHUP, ("eval", "--all"), Source, "open_data"),
    ],
)
def test_other_commands_leave_nothing(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    words: tuple[str, ...],
    owner: Any,
    name: str,
) -> None:
    before = listing(home)
    _signalled(monkeypatch, owner, name, number)
    done = command(*words, "--quiet")
    assert (done.code, done.out) == (128 + number, "")
    assert done.err == "interrupted; nothing was left half-written\n"
    assert listing(home) == before


def test_a_signal_that_python_swallowed_is_not_forgotten(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stops, "_seen", [int(signal.SIGTERM)])  # as from a destructor
    done = _train()
    assert done.code == 128 + signal.SIGTERM
    assert done.err == "interrupted; nothing was left half-written\n"
    assert listing(work) == {}


def test_a_real_training_survives_its_terminal(work: Path) -> None:
    words = ("train", *TINY, "--set=train.updates=100000", "--out=run", "--quiet")
    running = start(*words, fresh=True)
    log = work / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 200
    while not (log.is_file() and log.read_bytes().count(b"\n") >= 2):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    running.send_signal(signal.SIGHUP)
    _, err = running.communicate(timeout=100)
    assert running.returncode == 128 + signal.SIGHUP, err
    assert (work / "run" / "checkpoints" / "latest").is_file()


def test_nobody_reads(work: Path) -> None:
    """Neither a closed pipe of talk nor one of data costs a training anything."""
    tiny = " ".join(f"'{word}'" for word in TINY)
    closed = shell(f"sortednet train {tiny} --out run 2>&1 >path | head -c 0; cat path")
    assert (closed.code, closed.out) == (0, "run\n"), closed
    done = command("train", "--resume", RUN)
    assert done.code == 2 and "is finished" in done.err
