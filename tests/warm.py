"""Commands in processes of their own that start at once: copies of one that has all imports.

A process that imports torch afresh takes seconds of processor time. `Server` is forked from the
tests' process before the first of them runs. Small scripts that are called `sortednet`, `torchrun`
and `python` ask it for a copy of itself, which takes over their streams, folder and environment;
they pass signals on, and end as it ends. What only a fresh process shows is tested with one.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import torch
from torch.distributed import run as torchrun

from sortednet_cli import launch
from sortednet_cli.cli import main as sortednet


def _python() -> None:
    """`python -m MODULE` and `python -c CODE`."""
    flag, what, *arguments = sys.argv[1:]
    sys.argv = [what, *arguments]
    sys.path.insert(0, str(Path.cwd()))
    if flag == "-m":
        sys.modules.pop(what, None)
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(what, {"__name__": "__main__"})


PROGRAMS = {"sortednet": sortednet.main, "torchrun": torchrun.main, "python": _python}

_LATE = (
    *("matplotlib.pyplot", "sklearn.datasets", "torch._dynamo", "torchvision"),
    *("transformers.models.bert.modeling_bert", "transformers.models.llama.modeling_llama"),
    *(f"sortednet_cli.engine.{name}" for name in ("generation.generator", "export.extract")),
    "sortednet_cli.engine.serving.serve",
    "sortednet_cli.engine.training.session",
)
"""What commands import only where they need it."""

_CLIENT = f"""#!{sys.executable} -IS
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect(os.path.join(os.path.dirname(__file__), "socket"))
request = json.dumps([os.path.basename(__file__), sys.argv[1:], os.getcwd(), dict(os.environ)])
socket.send_fds(server, [request.encode() + b"\\n"], [0, 1, 2])
answers = server.makefile()
child = int(answers.readline())
def heed(answer):
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, answer)
heed(lambda number, _: os.kill(child, number))
code = int(answers.readline())
if code < 0:
    heed(signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


class Server:
    """A process that forks commands; `programs` is a folder for PATH."""

    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="warm-")
        self.programs = Path(self._place.name)
        for name in PROGRAMS:
            (self.programs / name).write_text(_CLIENT)
            (self.programs / name).chmod(0o755)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.programs / "socket"))
        listener.listen(64)
        for name in _LATE:
            importlib.import_module(name)
        waits, self._alive = os.pipe()
        self._number = os.fork()
        if self._number == 0:
            try:
                os.close(self._alive)
                gc.collect()
                gc.freeze()  # else each copy writes to all of its memory, and closes others' files
                _serve(listener, waits)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        listener.close()
        os.close(waits)

    def close(self) -> None:
        """End it, and wait for it: its processor time is then part of this process's."""
        os.close(self._alive)
        os.waitpid(self._number, 0)
        self._place.cleanup()


def _serve(listener: socket.socket, parent: int) -> NoReturn:
    """Fork a command for each connection until the parent closes its pipe or dies."""
    clients: dict[int, socket.socket] = {}
    while True:
        watched = [listener, parent, *clients.values()]
        ready, _, _ = select.select(watched, [], [], 0.01 if clients else None)
        if parent in ready:
            for number in clients:
                os.kill(number, signal.SIGKILL)
            os._exit(0)
        for number, client in list(clients.items()):
            if client in ready:  # it has died
                os.kill(number, signal.SIGKILL)
            ended, status = os.waitpid(number, os.WNOHANG)
            if ended:
                _tell(client, os.waitstatus_to_exitcode(status))
                clients.pop(number).close()
        if listener in ready:
            client, _ = listener.accept()
            if (number := _begin(client)) is None:
                client.close()
                continue
            clients[number] = client
            _tell(client, number)


def _tell(client: socket.socket, number: int) -> None:
    with suppress(OSError):  # it has died
        client.send(b"%d\n" % number)


def _begin(client: socket.socket) -> int | None:
    """Fork what a client asks for; None if it died before it had asked."""
    request, streams = b"", list[int]()
    part = b""
    while not request.endswith(b"\n"):
        with suppress(ConnectionError):
            part, found, _, _ = socket.recv_fds(client, 1 << 16, 3)
            streams += found
        if not part:
            for stream in streams:
                os.close(stream)
            return None
        request, part = request + part, b""
    number = os.fork()
    if number == 0:
        for own, stream in enumerate(streams):
            os.dup2(stream, own)
            os.close(stream)
        _become(*json.loads(request))
    for stream in streams:
        os.close(stream)
    return number


def _become(
    program: str, arguments: Sequence[str], folder: str, variables: Mapping[str, str]
) -> NoReturn:
    code: object = 1
    try:
        sys.stdin = sys.__stdin__ = os.fdopen(0)
        sys.stdout = sys.__stdout__ = os.fdopen(1, "w")
        sys.stderr = sys.__stderr__ = os.fdopen(2, "w", buffering=1, errors="backslashreplace")
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(variables)
        sys.argv = [program, *arguments]
        sortednet._is_first = launch.rank() == 0
        torch.set_num_threads(1)  # it makes a new pool, else threads race to be the first that does
        PROGRAMS[program]()
        code = 0
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        traceback.print_exc()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code if isinstance(code, int) else 1)
