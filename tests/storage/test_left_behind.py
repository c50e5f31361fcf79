"""Folders that vanish under a training, and what dead processes left behind."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock, Timeout

from sortednet_cli.engine.training.events import Updated
from sortednet_cli.engine.training.session import Session
from sortednet_cli.engine.training.start import create_session
from sortednet_cli.errors import WorkError
from sortednet_cli.spec import load_preset
from sortednet_cli.storage.checkpoint import load_checkpoint
from sortednet_cli.storage.files import new_folder, write_text
from sortednet_cli.storage.run import RunFolder
from tests.commands import command, listing, waiting
from tests.disks import strays
from tests.fixtures.make import SETTINGS


def begin(path: Path) -> Session:
    settings = [word.removeprefix("--set=") for word in SETTINGS[1:]]
    more = ["train.updates=8", "train.log_every=1", "train.checkpoint_minutes=0.000001"]
    return create_session(
        path, load_preset("digits-resnet", [*settings, *more]), torch.device("cpu")
    )


def harmed(fit: Session, harm: Callable[[Path], object]) -> None:
    """Train, and do something to the run's folder after its fourth update."""
    for event in fit.events():
        if isinstance(event, Updated) and event.update == 4:
            harm(fit.run.path)


def test_a_run_that_vanishes(work: Path) -> None:
    """One message, and no folder that looks like a run."""
    with pytest.raises(WorkError, match=r"cannot write .*run.*No such file or directory"):
        harmed(begin(work / "run"), shutil.rmtree)
    assert listing(work) == {}


def test_a_file_in_the_place_of_a_run(work: Path) -> None:
    def harm(path: Path) -> None:
        path.rename(path.with_name("moved"))
        path.touch()

    with pytest.raises(WorkError, match=r"cannot write .*run.*Not a directory"):
        harmed(begin(work / "run"), harm)
    moved = RunFolder.open(work / "moved")
    found = load_checkpoint(moved)
    assert found is not None
    assert found.update == 3
    assert command("train", "--resume", "moved", "--quiet").code == 0


def test_checkpoints_that_vanish_are_made_again(work: Path) -> None:
    fit = begin(work / "run")
    harmed(fit, lambda path: shutil.rmtree(path / "checkpoints"))
    assert fit.run.finished
    assert command("info", "--check", "run").code == 0


def test_a_file_in_the_place_of_checkpoints(work: Path) -> None:
    def harm(path: Path) -> None:
        shutil.rmtree(path / "checkpoints")
        (path / "checkpoints").touch()

    with pytest.raises(WorkError, match=r"cannot write .*run/checkpoints.*File exists"):
        harmed(begin(work / "run"), harm)


def test_a_checkpoint_that_nobody_pointed_to_is_not_believed(work: Path) -> None:
    """As a kill between its rename and the pointer leaves it; its training may go on otherwise."""
    fit = begin(work / "run")
    fit.run.checkpoints.joinpath("step-1").mkdir()
    harmed(fit, lambda path: None)
    assert fit.run.finished
    assert not fit.run.checkpoints.exists()


LEAVE = """
import os, signal, sys
from pathlib import Path
from sortednet_cli.storage.files import new_folder, replacing
with new_folder(Path("cut")) as staging, replacing(Path("a.svg")) as file:
    (staging / "part").write_text("half")
    file.write(b"half")
    file.flush()
    print("begun", flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_the_dead_left_is_removed_and_nothing_else(work: Path) -> None:
    others = [".a.svg.77.tmp", ".a.svg.77-0a1b2c3d.tmp", ".sortednet-tmp", "a.77-0a1b2c3d" + ".tmp"]
    for name in others:
        (work / name).write_text("a stranger's")
    (work / ".link.1-0a1b2c3d.sortednet-tmp").symlink_to(work / others[0])
    living = waiting(LEAVE)
    with living:
        assert living.stdout is not None and living.stdout.readline() == "begun\n"
        assert len(strays(work)) == 5  # two, their locks, and the link
        write_text(work / "b.txt", "new")
        assert len(strays(work)) == 5, "a living process is still writing"
        living.communicate("")
    assert living.returncode == -signal.SIGKILL
    assert len(strays(work)) == 5
    write_text(work / "b.txt", "new")
    assert strays(work) == [".link.1-0a1b2c3d.sortednet-tmp"]
    assert sorted(path.name for path in work.iterdir()) == sorted([*others, *strays(work), "b.txt"])


def test_two_threads_of_one_name(work: Path) -> None:
    """Each has a temporary file of its own; the last one to be ready counts."""
    from sortednet_cli.storage.files import replacing

    with replacing(work / "a") as first:
        first.write(b"one")
        with replacing(work / "a") as second:
            second.write(b"two")
        assert (work / "a").read_bytes() == b"two"
    assert (work / "a").read_bytes() == b"one"


def test_a_sweep_that_meets_a_writer_at_its_end_leaves_no_lock(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer's lock is held when the sweep tries it, and gone a moment later."""
    acquire, missed = FileLock.acquire, iter(range(2))

    def meets(self: FileLock, *words: Any) -> Any:
        if next(missed, None) is None:
            return acquire(self, *words)
        Path(self.lock_file).unlink(missing_ok=True)
        raise Timeout(self.lock_file)

    monkeypatch.setattr(FileLock, "acquire", meets)
    (work / ".a.7-00000000.lock.sortednet-tmp").touch()
    write_text(work / "b", "text")  # it sweeps first; then its own name is taken once
    assert [path.name for path in work.iterdir()] == ["b"]


def test_all_of_a_folder_is_on_disk_before_it_has_its_name(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that others wrote too, its folders, and the names of those made above it."""
    calls: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def noted(descriptor: int) -> None:
        calls.append(("sync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        calls.append(("rename", str(source)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "rename", renamed)
    with new_folder(work / "a" / "b" / "new") as staging:
        (staging / "inner").mkdir()
        (staging / "inner" / "file").write_text("by others")
    at = calls.index(("rename", str(staging)))
    before, after = ({path for _, path in part} for part in (calls[:at], calls[at + 1 :]))
    assert before == {str(staging), str(staging / "inner"), str(staging / "inner" / "file")}
    assert after == {str(work), str(work / "a"), str(work / "a" / "b")}
