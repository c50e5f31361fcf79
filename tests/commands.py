"""Running commands as a shell would: in this process where that is enough, or in their own."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sortednet_cli.cli.main import run

SORTEDNET = Path(sys.executable).with_name("sortednet")
TINY = (
    "--preset=digits-resnet",
    "--set=train.updates=3",
    "--set=space.width=[0.5,1.0]",
    "--set=space.depth=[1,8]",
    "--set=model.config.channels=[8]",
)
"""Arguments of `train` for a run that takes a moment."""

FASTER: list[Path] = []
"""Folders of programs that do what the installed ones do, at once: see `warm.py`."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


def command(*arguments: str | Path) -> Done:
    """Run a command in this process and in the working folder."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    return Done(code, out.getvalue(), err.getvalue())


def environment(*, fresh: bool = False, **variables: str) -> dict[str, str]:
    """This process's environment with one thread and with the entry point in PATH.

    Args:
        fresh: a command starts as a user's does, with imports that take seconds.
    """
    places = [*([] if fresh else FASTER), SORTEDNET.parent, os.environ["PATH"]]
    path = os.pathsep.join(map(str, places))
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **variables}


def shell(script: str, *, fresh: bool = False, **variables: str) -> Done:
    """Run a bash script under pipefail, with `sortednet` in PATH."""
    bash = shutil.which("bash") or "bash"
    done = subprocess.run(
        [bash, "-euo", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment(fresh=fresh, **variables),
    )
    return Done(done.returncode, done.stdout, done.stderr)


def start(*arguments: str | Path, fresh: bool = False) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    return subprocess.Popen(
        ["sortednet", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(fresh=fresh),
    )


def waiting(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """A Python process that runs code, which may read and print lines."""
    return subprocess.Popen(
        ["python", "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )


WITHOUT_THIS_PACKAGE = """
import sys
for name in {"sortednet_cli", *(n for n in sys.modules if n.startswith("sortednet_cli."))}:
    sys.modules[name] = None
import torch
torch.set_num_threads(1)
"""
"""Python that makes every later import of this package fail."""


def python(code: str, folder: Path, *, fresh: bool = False) -> None:
    """Run code in a process of its own, in a folder; `fresh` as `environment` takes it."""
    done = subprocess.run(
        ["python", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=environment(fresh=fresh),
    )
    assert done.returncode == 0, done


def listing(folder: Path) -> dict[str, str]:
    """Everything under a folder, hidden files too, with a digest of each file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


def refused(done: Done, code: int, *fragments: str) -> None:
    """Assert that a command ended with one clear message and printed no data."""
    assert done.code == code, done
    assert done.out == "", done
    assert "Traceback" not in done.err, done
    assert done.err.lower().count("error:") == 1, done
    for fragment in fragments:
        assert fragment in done.err, (fragment, done)


def refused_all(folder: Path, commands: list[list[Any]], *fragments: str) -> None:
    """Assert that all are refused, and that nothing under a folder changes."""
    before = listing(folder)
    for arguments in commands:
        refused(command(*arguments), 2, *fragments)
    assert listing(folder) == before


def replace_by(path: Path, kind: str) -> None:
    """Put something that is no regular file in the place of one."""
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        target = {"loop": path.name, "passwords": "/etc/passwd", "zeros": "/dev/zero"}[kind]
        path.symlink_to(target)
