"""Systems that are not the one the tests run on: what they lack, refuse and write otherwise."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sortednet_cli.cli import main
from sortednet_cli.errors import RequestError, WorkError
from sortednet_cli.spec import load_preset
from sortednet_cli.storage import files, lock
from sortednet_cli.storage.files import new_folder, write_text
from sortednet_cli.storage.runs import default_run_path
from tests.commands import SORTEDNET, command, environment, listing, refused, shell
from tests.disks import strays

ROOT = Path(__file__).parents[2]


def test_all_of_it_without_what_posix_alone_has(work: Path) -> None:
    """Every module is imported; nothing is renamed or removed while it is open or mapped."""
    words = ["-X", "warn_default_encoding", "-m", "tests.windows", str(work)]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert not (work / "adamw" / "checkpoints").exists()
    assert strays(work) == []


@pytest.mark.parametrize("name", ["replace", "rename"])
@pytest.mark.parametrize(("windows", "times"), [(True, 2), (True, 1000), (False, 1)])
def test_windows_renames_once_readers_have_gone(
    work: Path, monkeypatch: pytest.MonkeyPatch, windows: bool, times: int, name: str
) -> None:
    real, calls = getattr(os, name), list[Path]()

    def refused_at_first(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) <= times:
            raise PermissionError(errno.EACCES, "somebody reads it", str(source))
        real(source, target)

    def write() -> None:
        if name == "replace":
            return write_text(work / "new", "text")
        with new_folder(work / "new"):
            return None

    monkeypatch.setattr(os, name, refused_at_first)
    monkeypatch.setattr(files, "_WINDOWS", windows)
    monkeypatch.setattr(files, "_PATIENCE_SECONDS", 0.1)
    if times == 2:
        write()
    else:
        with pytest.raises(WorkError, match=r"cannot write .*new: somebody reads it"):
            write()
        assert windows == (len(calls) > 1)
    assert listing(work).keys() == ({"new"} if times == 2 else set())


def test_a_file_system_without_locks(
    work: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file stands for a run's lock, and what the dead left is not told from what others write."""

    def flock(*arguments: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    left = [".a.77-0a1b2c3d.sortednet-tmp", ".a.77-0a1b2c3d.lock.sortednet-tmp"]
    for name in left:
        (work / name).touch()
    with lock.write_lock(work):
        assert "has no locks" in caplog.text and caplog.text.count("\n") == 1
        with (
            pytest.raises(RequestError, match=f"is being written by process {os.getpid()}"),
            lock.write_lock(work),
        ):
            pass
        write_text(work / "a", "new")
    assert sorted(listing(work)) == sorted(["a", *left])


@pytest.mark.parametrize(
    "name",
    ["CON", "nul.toml", "Com1.x", "lpt\u00b9", "ab:c", "what?", "end.", "end ", "a|b", '"a"'],
)
def test_a_name_that_some_system_refuses(work: Path, name: str) -> None:
    words = ("--preset=digits-resnet", "--set", f"name={name!r}", "--quiet")
    done = command("train", *words)
    refused(done, 2, f"{name!r} is not a legal folder name on every system", "give --out")
    assert listing(work) == {}


@pytest.mark.parametrize("name", ["console", "com10", "a.con", "con-2", "nul-w0.5"])
def test_a_name_that_every_system_takes(name: str) -> None:
    assert default_run_path(name) == Path("runs", name)


@pytest.mark.parametrize("name", ["C:evil", "a\\b", "a/b"])
def test_a_name_that_leaves_its_folder(name: str) -> None:
    """Also in a file that was made elsewhere: on Windows `artifacts/C:evil` is `C:evil`."""
    with pytest.raises(RequestError, match="must not hold a slash, a drive"):
        load_preset("digits-resnet", [f"name='{name}'"])


def test_data_is_utf8_whatever_the_system_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    data, talk = io.BytesIO(), io.BytesIO()
    for stream, raw in (("stdout", data), ("stderr", talk)):
        text = io.TextIOWrapper(raw, encoding="cp1252", newline="\r\n")
        monkeypatch.setattr(sys, stream, text)
    main._open_streams()
    for file in (sys.stdout, sys.stderr):
        file.write("\u2192 \udcff\n")
        file.flush()
    assert data.getvalue() == b"\xe2\x86\x92 \xff\n"
    assert talk.getvalue() == b"\\u2192 \\udcff\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_leads_nowhere(closed: str) -> None:
    """Neither a traceback, nor another file in the place of the stream."""
    done = shell(f"'{SORTEDNET}' presets {closed}")
    assert (done.code, done.err) == (0, ""), done
    assert ("digits-resnet" in done.out) == (closed in ("<&-", "2>&-"))
