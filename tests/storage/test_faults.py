"""Every write is atomic and durable: disks that fail at any call, are full, or vanish."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sortednet_cli.errors import SortednetError, WorkError
from sortednet_cli.storage.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sortednet_cli.storage.run import RunFolder
from tests.cli.test_generate import PICO
from tests.commands import Done, command, listing, refused, shell
from tests.disks import FailingDisk, read_only, small_disk, strays
from tests.fixtures.make import SETTINGS, make
from tests.sealing import unfinished

ONCE_AND_FOR_GOOD = pytest.mark.parametrize("stays", [False, True], ids=["once", "for good"])
SWEEPS = pytest.mark.parametrize(
    ("stays", "step"),
    [
        pytest.param(False, 3, id="once"),
        pytest.param(True, 5, id="for good"),
        pytest.param(False, 1, id="once at every call", marks=pytest.mark.torture),
        pytest.param(True, 1, id="for good at every call", marks=pytest.mark.torture),
    ],
)
"""A disk that fails once or for good, at every so many-th call."""

FULL = "No space left on device"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make(folder)
    assert command("train", *PICO, "--quiet", "--out", folder / "texts").code == 0
    return folder


@pytest.fixture
def kept(work: Path, made: Path) -> Path:
    shutil.copytree(made, work, dirs_exist_ok=True)
    return work


@pytest.fixture
def disk(work: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], FailingDisk]:
    return lambda stays: FailingDisk(monkeypatch, work, stays=stays)


def every_fault(
    disk: FailingDisk, attempt: Callable[[], Done], after: Callable[[Done], None], step: int
) -> int:
    """Fail every `step`-th writing call of a command until it needs no more; return how many."""
    for number in range(1, 1000, step):
        with disk.fails_at(number):
            done = attempt()
        if not disk.fired:
            assert done.code == 0, done
            return number - 1
        refused(done, 1, "cannot ", FULL)
        after(done)
    raise AssertionError("it writes for ever")


def state(update: int) -> Checkpoint:
    values = {"a": torch.full((4,), float(update))}
    return Checkpoint(update, update, 1.0, {"width": [1]}, values, values)


@ONCE_AND_FOR_GOOD
def test_a_checkpoint_is_whole_or_the_last_one_counts(
    kept: Path, disk: Callable[[bool], FailingDisk], stays: bool
) -> None:
    run, failing = RunFolder(kept / "run"), disk(stays)
    number, failed = 0, True
    while failed:
        number += 1
        save_checkpoint(run, state(1))
        with failing.fails_at(number):
            try:
                save_checkpoint(run, state(2))
            except SortednetError as error:
                assert isinstance(error, WorkError)
                assert str(kept / "run") in str(error) and FULL in str(error)
                assert "sortednet-tmp" not in str(error)
        failed = failing.fired
        found = load_checkpoint(run)
        assert found is not None
        assert found.update in (1, 2)
        for values in (found.weights, found.optimizer):
            assert values["a"].tolist() == [found.update] * 4
        save_checkpoint(run, state(3))
        assert strays(kept) == []
        assert sorted(path.name for path in run.checkpoints.iterdir()) == ["latest", "step-3"]
    assert number > 30


@SWEEPS
def test_finishing_a_run_goes_through_or_can_be_done_again(
    kept: Path, disk: Callable[[bool], FailingDisk], stays: bool, step: int
) -> None:
    unfinished(kept / "run")
    shutil.copytree(kept / "run", kept / "before")

    def after(done: Done) -> None:
        assert " run" in done.err
        state = json.loads((kept / "run" / "run.json").read_text())["state"]
        if state == "finished":  # only its folder was not known to be on disk
            assert command("info", "--check", "run").code == 0
            shutil.rmtree(kept / "run")
            shutil.copytree(kept / "before", kept / "run")
        assert load_checkpoint(RunFolder(kept / "run")) is not None

    attempt = ("train", "--resume", "run", "--quiet")
    assert every_fault(disk(stays), lambda: command(*attempt), after, step) > 25
    assert command("info", "--check", "run").code == 0
    assert strays(kept) == []


@SWEEPS
def test_an_artifact_is_whole_or_not_there(
    kept: Path, disk: Callable[[bool], FailingDisk], stays: bool, step: int
) -> None:
    before = listing(kept)

    def after(done: Done) -> None:
        assert "deep/cut" in done.err
        if Path("deep/cut").exists():  # only its name was not known to be on disk
            assert command("info", "--check", "deep/cut").code == 0
            shutil.rmtree("deep")
        assert listing(kept) == before

    attempt = ("extract", "run", "--depth=1", "--out=deep/cut", "--quiet")
    assert every_fault(disk(stays), lambda: command(*attempt), after, step) > 40


@SWEEPS
def test_a_new_run_is_whole_or_not_there(
    kept: Path, disk: Callable[[bool], FailingDisk], stays: bool, step: int
) -> None:
    """Once the run has its name, it can go on."""
    before, failing, number = listing(kept), disk(stays), 1
    attempt = ("train", *SETTINGS, "--out=new", "--quiet")
    while True:
        with failing.fails_at(number):
            done = command(*attempt)
        if not failing.fired:
            break
        refused(done, 1, "cannot write", "new", FULL)
        if Path("new").exists():
            if not RunFolder(Path("new")).finished:
                assert command("train", "--resume", "new", "--quiet").code == 0
            assert command("info", "--check", "new").code == 0
            assert strays(kept) == []
            shutil.rmtree("new")
        assert listing(kept) == before
        number += 5 * step
    assert (done.code, number > 60) == (0, True)


@SWEEPS
def test_a_picture_is_whole_or_the_old_one(
    kept: Path, disk: Callable[[bool], FailingDisk], stays: bool, step: int
) -> None:
    file = Path("a.png" if stays else "a.svg")
    file.write_text("old")

    def after(done: Done) -> None:
        assert str(file) in done.err
        if file.read_bytes() != b"old":  # it was whole, only not known to be on disk
            assert file.stat().st_size > 5000
            file.write_text("old")
        assert strays(kept) == []

    attempt = ("frontier", "run", "--plot", file, "--quiet")
    assert every_fault(disk(stays), lambda: command(*attempt), after, step) >= 5


@SWEEPS
def test_thresholds_are_whole_or_the_old_ones(
    kept: Path, disk: Callable[[bool], FailingDisk], stays: bool, step: int
) -> None:
    calibrate = ("generate", "texts", "--calibrate", "--quiet", "--agreement")
    assert command(*calibrate, "0.5").code == 0
    early = ("generate", "texts", "--prompt=a", "--mode=early-exit", "--max-new-tokens=2", "-q")

    def after(done: Done) -> None:
        assert re.search(r"cannot write (into texts|texts/decoding\.json): \w", done.err), done
        assert command("info", "--check", "texts").code == 0
        assert strays(kept) == []

    assert every_fault(disk(stays), lambda: command(*calibrate, "0.6"), after, step) >= 5
    assert command(*early).code == 0


def test_a_cache_that_cannot_be_written_is_a_warning(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding is done again another time; the training goes on."""
    from tests.data.made import tree_files, write_tree

    write_tree(work / "images", tree_files({"train": 6, "test": 2}))
    words = ["--set=data.source=image-folder", "--set=train.batch_size=4", "--data=images"]
    failing = FailingDisk(monkeypatch, tmp_path / "cache", stays=True)
    with failing.fails_at(4):
        done = command("train", *SETTINGS, *words, "--quiet", "--out=run")
    assert done.code == 0, done
    assert failing.fired
    assert "could not be cached" in done.err and FULL in done.err
    assert strays(tmp_path) == []


@pytest.mark.parametrize("size", [4096, 16384, 32768, 57344])
def test_a_full_disk(kept: Path, size: int) -> None:
    """A real one: whatever of the run was written first stays good, and goes on elsewhere."""
    small = kept / "small"
    updates = ("--set=train.updates=40", "--set=train.log_every=1")
    wordy = ("--set=train.checkpoint_minutes=0.00001", "--set=train.tensorboard=true")
    with small_disk(small, size):
        done = command("train", *SETTINGS, *updates, *wordy, "--quiet", "--out=small/run")
        refused(done, 1, "small/run", "cannot write")
        assert strays(small) == []
        if not (small / "run").exists():
            return
        shutil.copytree(small / "run", kept / "moved")
    assert not RunFolder.open(kept / "moved").finished
    assert command("info", "--check", "moved").code == 0
    assert command("train", "--resume", "moved", "--quiet").code == 0
    lines = (kept / "moved" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["update"] for line in lines] == list(range(1, 41))
    assert command("info", "--check", "moved").code == 0


@pytest.mark.parametrize("size", [8192, 16384])
@pytest.mark.filterwarnings("ignore")
def test_no_room_for_what_others_write(kept: Path, size: int) -> None:
    """Tokenizers, ONNX and exported programs."""
    for words in (
        ("train", *PICO),
        ("extract", "texts"),
        ("extract", "run", "--depth=1", "--format=onnx"),
        ("extract", "run", "--depth=1", "--format=pt2"),
    ):
        with small_disk(kept / "small", size):
            done = command(*words, "--quiet", "--out=small/new")
            refused(done, 1, "cannot write small/new")
            assert listing(kept / "small") == {}


def test_standard_output_on_a_full_disk(kept: Path) -> None:
    for words in ("presets", "info run --json", "frontier run"):
        done = shell(f"sortednet {words} --quiet > /dev/full")
        refused(done, 1, f"cannot write standard output: {FULL}")


def test_a_read_only_folder(kept: Path) -> None:
    shutil.copytree("run", "shut/begun")
    unfinished(Path("shut/begun"))
    shutil.copytree("run", "shut/run")
    shutil.copytree("texts", "shut/texts")
    before = listing(kept / "shut")
    with read_only(kept / "shut"):
        for words in (
            ("train", *SETTINGS, "--out=shut/new"),
            ("train", "--resume", "shut/begun"),
            ("extract", "run", "--out=shut/deep/cut"),
            ("generate", "shut/texts", "--calibrate"),
            ("frontier", "run", "--plot=shut/a.svg"),
        ):
            done = command(*words, "--quiet")
            refused(done, 1, "cannot write", "shut")
        for words in (("eval", "shut/run"), ("info", "--check", "shut/run")):
            assert command(*words, "--quiet").code == 0
    assert listing(kept / "shut") == before
