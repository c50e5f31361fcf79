"""Two commands at the same time: one writer, who is named; readers see all or nothing."""

from __future__ import annotations

import fcntl
import json
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from sortednet_cli.data.images.cache import Decoded, cached
from sortednet_cli.engine.training.start import create_session, reopen_session
from sortednet_cli.errors import RequestError, WorkError
from sortednet_cli.space import SubModel
from sortednet_cli.spec import load_preset
from sortednet_cli.storage import files, lock, temporary
from sortednet_cli.storage.exit_thresholds import ExitThresholds, read_thresholds, write_thresholds
from sortednet_cli.storage.run import RunFolder
from tests.cli.test_shell import document
from tests.commands import TINY, command, listing, refused, start
from tests.sealing import unfinished

RUN = Path("runs/digits-resnet")
LEFT = "77-0a1b2c3d"
DEAD = 2**22 + 1  # above the largest process number


def _held(folder: Path, patience: float = 0.0) -> None:
    with lock.write_lock(folder, patience):
        pass


def test_a_dead_holder_is_followed_and_never_named(tmp_path: Path) -> None:
    dead = f"process {DEAD} on {platform.node()}\n"
    (tmp_path / lock.HOLDER).write_text(dead)
    _held(tmp_path)
    assert not (tmp_path / lock.HOLDER).exists()
    with lock.write_lock(tmp_path):
        (tmp_path / lock.HOLDER).write_text(dead)
        with pytest.raises(RequestError, match="is being written by another process"):
            _held(tmp_path)


def test_a_holder_on_another_machine_is_named_with_it(tmp_path: Path) -> None:
    with lock.write_lock(tmp_path):
        (tmp_path / lock.HOLDER).write_text("process 77 on elsewhere\n")
        with pytest.raises(RequestError, match="by process 77 on elsewhere"):
            _held(tmp_path)


def test_the_lock_of_a_folder_that_was_replaced_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = tmp_path / "run", fcntl.flock
    folder.mkdir()

    def replaced(*arguments: Any) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        shutil.rmtree(folder)
        folder.mkdir()
        real(*arguments)

    monkeypatch.setattr(fcntl, "flock", replaced)
    with lock.write_lock(folder), pytest.raises(RequestError, match="being written by process"):
        _held(folder)  # without a second look, the first would hold what nobody sees
    shutil.rmtree(folder)
    with pytest.raises(WorkError, match="cannot write into"):
        _held(folder)


def test_a_run_that_another_one_finished_meanwhile_is_left_alone(home: Path) -> None:
    manifest = (RUN / "run.json").read_text()
    (RUN / "run.json").write_text(manifest.replace('"finished",', '"training",'))
    fit = reopen_session(RunFolder.open(RUN), torch.device("cpu"), ())
    (RUN / "run.json").write_text(manifest)
    before = listing(RUN)
    with pytest.raises(RequestError, match="is finished; there is nothing to resume"):
        list(fit.events())
    assert listing(RUN) == before


def test_a_killed_writers_leftovers_are_removed(home: Path) -> None:
    """Also a checkpoint that was never pointed to: another number of processes made it."""
    expected = listing(RUN)
    unfinished(RUN)
    for folder in (f".step-9.{LEFT}{temporary.SUFFIX}", "step-2", "step-9"):
        shutil.copytree(RUN / "checkpoints" / "step-3", RUN / "checkpoints" / folder)
    for file in (f".weights.safetensors.{LEFT}", f"checkpoints/.latest.{LEFT}"):
        (RUN / f"{file}{temporary.SUFFIX}").write_text("x")
    for left in (f".weights.safetensors.{LEFT}", f"checkpoints/.latest.{LEFT}"):
        (RUN / f"{left}.lock{temporary.SUFFIX}").touch()
    (RUN / f"checkpoints/.step-9.{LEFT}.lock{temporary.SUFFIX}").touch()
    done = command("train", "--resume", RUN, "--quiet")
    assert (done.code, done.err) == (0, "")
    found = listing(RUN)
    for name in (".lock", "run.json"):
        found[name] = expected[name]
    assert found == expected


def _while_staging(monkeypatch: pytest.MonkeyPatch, name: Path, make: Callable[[], None]) -> None:
    """Let another command finish a folder while the first one fills its own."""
    real, done = files.temporary, list[Path]()

    @contextmanager
    def raced(path: Path) -> Iterator[Path]:
        with real(path) as staging:
            if not done and path.name == name.name:
                done.append(staging)
                make()
            yield staging

    monkeypatch.setattr(files, "temporary", raced)


def test_two_trainings_want_the_default_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = RUN.with_name("other")
    RUN.rename(other)
    _while_staging(monkeypatch, RUN, lambda: shutil.copytree(other, RUN) and None)
    done = command("train", *TINY, "--quiet")
    assert (done.code, done.out, done.err) == (0, "runs/digits-resnet-2\n", "")
    assert listing(RUN) == listing(other)
    assert {path.name for path in RUN.parent.iterdir()} == {RUN.name, f"{RUN.name}-2", "other"}


def test_two_trainings_start_together(work: Path) -> None:
    running = [start("train", *TINY, "--quiet") for _ in range(2)]
    ends = [process.communicate(timeout=280) for process in running]
    assert sorted(out for out, _ in ends) == ["runs/digits-resnet\n", "runs/digits-resnet-2\n"]
    assert [err for _, err in ends] == ["", ""]
    names = ("weights.safetensors", "frontier.json", "metrics.jsonl")
    for name in names:
        assert Path(RUN, name).read_bytes() == Path(f"{RUN}-2", name).read_bytes()


@pytest.mark.parametrize("out", [None, "cut"])
def test_two_extractions_want_one_name(
    home: Path, monkeypatch: pytest.MonkeyPatch, out: str | None
) -> None:
    place = Path(out or "artifacts/digits-resnet-w0.5-d1")
    assert command("extract", "--width=0.5", "--depth=1", "--out=first", "--quiet").code == 0
    _while_staging(monkeypatch, place, lambda: shutil.copytree("first", place) and None)
    words = ["extract", "--width=0.5", "--depth=1", "--quiet", *([f"--out={out}"] if out else [])]
    done = command(*words)
    if out is None:
        assert (done.code, done.out) == (0, f"{place}-2\n")
        assert listing(Path(f"{place}-2")) == listing(place)
    else:
        refused(done, 2, "cut exists; choose another --out or remove it")
    assert listing(place) == listing(Path("first"))
    assert not [name for name in listing(home) if f".{place.name}." in name]


def test_calibrations_of_two_submodels_are_both_kept(tmp_path: Path) -> None:
    submodels = [SubModel.of({"depth": depth}) for depth in range(1, 17)]
    found = ExitThresholds(target=0.9, agreement=1.0, tokens=5, exits={})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda submodel: write_thresholds(tmp_path, submodel, found), submodels))
    assert all(read_thresholds(tmp_path, submodel) == found for submodel in submodels)


def test_two_processes_fill_the_cache(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.arange(2000 * 64, dtype=torch.int64).to(torch.uint8).view(2000, 1, 8, 8)
    whole = Decoded(("a",), {"train": (images, torch.zeros(2000, dtype=torch.int64))})
    barrier = threading.Barrier(8)

    def decode() -> Decoded:
        barrier.wait(30)
        return whole

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: cached("key", decode), range(8)))
    again = cached("key", lambda: pytest.fail("it is there"))
    assert torch.equal(again.parts["train"][0], images)
    folder = work.parent / "cache" / "images"
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"]


READERS = (
    ("eval", "run", "--all", "--json", "--quiet"),
    ("frontier", "run", "--json", "--quiet"),
    ("extract", "run", "--width=0.5", "--depth=1", "--json", "--quiet", "--out"),
)


def test_readers_see_all_or_nothing(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader after each file that the training writes; what it is told is final."""
    seen: list[tuple[int, Any]] = []
    real = Path.replace

    def replaced(self: Path, target: Path) -> Path:
        done = real(self, target)
        if "run" in Path(target).parts and not seen_by_reader:
            seen_by_reader.append(1)
            read(len(seen))
            seen_by_reader.clear()
        return done

    seen_by_reader: list[int] = []

    def read(number: int) -> None:
        words = READERS[number % len(READERS)]
        more = [f"cut{number}"] if words[0] == "extract" else []
        found = command(*words, *more)
        told = json.loads(found.out) if found.code == 0 else found.err
        seen.append((number % len(READERS), told))

    monkeypatch.setattr(Path, "replace", replaced)
    updates = ("--set=train.checkpoint_minutes=1e-6", "--set=train.updates=2")
    assert command("train", *TINY, *updates, "--out=run", "--quiet").code == 0
    monkeypatch.setattr(Path, "replace", real)
    final = [document(*words) for words in READERS[:2]]
    refusals = [found for _, found in seen if isinstance(found, str)]
    assert len(refusals) > 8 and not isinstance(seen[-1][1], str)
    assert all("has no finished weights yet" in text for text in refusals)
    for kind, found in seen:
        if not isinstance(found, str) and kind < 2:
            assert found == final[kind]
    assert not [path for path in work.glob("cut*") if not (path / "sortednet.json").is_file()]


def test_reading_in_a_loop_while_a_real_training_ends(work: Path) -> None:
    running = start("train", *TINY, "--set=train.updates=30", "--out=run", "--quiet")
    found: list[Any] = []
    deadline = time.monotonic() + 250
    while not (running.poll() is not None and found and not isinstance(found[-1], str)):
        assert time.monotonic() < deadline, found[-1:]
        done = command(*READERS[1])
        found.append(json.loads(done.out) if done.code == 0 else done.err)
    out, err = running.communicate()
    assert (running.returncode, out) == (0, "run\n"), err
    refusals = {text for text in found if isinstance(text, str)}
    assert refusals <= {
        "error: no run at run: there is no such folder\n",
        "error: run has no finished weights yet; resume it with: sortednet train --resume run\n",
    }
    assert all(item == found[-1] for item in found if not isinstance(item, str))


def test_the_name_is_taken_only_where_none_was_given(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --out the second training is refused, and the first one's folder is as it was."""
    spec = load_preset("digits-resnet", ["train.updates=1"])
    name = Path("mine")

    def make() -> None:
        name.mkdir()
        (name / "file").write_text("x")

    _while_staging(monkeypatch, name, make)
    with pytest.raises(RequestError, match="mine exists; choose another --out"):
        create_session(name, spec, torch.device("cpu"))
    assert listing(work)["mine/file"] and len(listing(Path("mine"))) == 1


def test_a_folder_that_takes_no_files_holds_no_lock() -> None:
    """`/proc` answers that there is no such file, which must not be taken for a busy lock."""
    with pytest.raises(FileNotFoundError):
        lock.try_lock(Path("/proc/file"))
    with pytest.raises(WorkError, match="cannot write /proc/file: No such file"):
        files.write_text(Path("/proc/file"), "text")
    with pytest.raises(WorkError, match="cannot write into /proc: No such file"):
        _held(Path("/proc"))
