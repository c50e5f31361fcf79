"""The command line: its commands, and how errors become messages and exit codes. No torch."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from sortednet_cli import allocator, engine, launch, logs
from sortednet_cli.cli import usage
from sortednet_cli.cli.bench_pack import bench_pack
from sortednet_cli.cli.completion import completion
from sortednet_cli.cli.evaluate import evaluate
from sortednet_cli.cli.extract import ExtractCommand, extract
from sortednet_cli.cli.frontier import FrontierCommand, frontier
from sortednet_cli.cli.generate import generate
from sortednet_cli.cli.info import info
from sortednet_cli.cli.init import init
from sortednet_cli.cli.presets import presets
from sortednet_cli.cli.push import push
from sortednet_cli.cli.report import report
from sortednet_cli.cli.serve import serve
from sortednet_cli.cli.stops import Stopped, leaves_threads, stop_at_signals
from sortednet_cli.cli.train import train
from sortednet_cli.errors import RequestError, SortednetError, WorkError, listed, plain
from sortednet_cli.extensions import imported, warn_once

# Newer typer vendors click, older typer uses the installed one. Both export only `BadParameter`;
# its base class covers every error of a wrong command line.
_UsageError: Any = typer.BadParameter.__base__

_STDIN, _STDOUT, _STDERR = range(3)
_CLOSED = (errno.EPIPE, errno.EINVAL) if sys.platform == "win32" else (errno.EPIPE,)
"""Error numbers of a write into a pipe whose reader has closed it."""
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Error numbers of a write that a disk or a quota refuses."""

_SINGLE_PROCESS = (
    "bench-pack",
    "extract",
    "frontier",
    "generate",
    "init",
    "push",
    "report",
    "serve",
)
"""Commands that do not run as a job of several processes."""

_is_first = launch.rank() == 0
"""Whether this process reports for its job: all processes read the same command line."""

_REPORT_DELAY_SECONDS = 30.0
"""How long the other processes of a job wait for the first one to report an error."""

_BUG = (
    "error: this is a bug in sortednet{others}: please report it with the traceback above, your"
    " command and the output of `sortednet --version`\n"
)

app = typer.Typer(
    name="sortednet",
    help="Train one nested network holding hundreds of good sub-models; cut any of them out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command()(init)
app.command()(train)
app.command("eval")(evaluate)
app.command(cls=FrontierCommand)(frontier)
app.command(cls=ExtractCommand)(extract)
app.command("bench-pack")(bench_pack)
app.command()(push)
app.command()(report)
app.command()(generate)
app.command()(serve)
app.command()(presets)
app.command()(info)
app.command()(completion)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version."),
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("sortednet-cli"))
        raise typer.Exit


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; print the traceback of a bug.

    Torch's `record` is not used: `torchrun` would print a traceback for every user error.
    """
    logs.configure(0)
    warn_once.cache_clear()
    try:
        return _run(arguments)
    except Exception:
        traceback.print_exc()
        others = f" or in {listed(imported)}, which extends it" if imported else ""
        sys.stderr.write(_BUG.format(others=others))
        return 1


def _run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code.

    The codes are 0 for success, 1 if the work failed, 2 if the request was wrong, and 128 plus the
    number of the signal that interrupted it (130, 143). A closed pipe is no failure: whoever read
    it has seen enough.
    """
    try:
        result = _run_checked(arguments)
        sys.stdout.flush()
    except _UsageError as error:
        if _is_reporter():
            sys.stderr.write(plain(usage.told(error)))
        return 2
    except SortednetError as error:
        if _is_reporter() if error.report_here is None else error.report_here:
            sys.stderr.write(f"error: {plain(str(error))}\n")
        return error.exit_code
    except (Stopped, KeyboardInterrupt, typer.Abort) as stopped:
        if _is_first:
            sys.stderr.write("interrupted; nothing was left half-written\n")
        return 128 + (stopped.number if isinstance(stopped, Stopped) else signal.SIGINT)
    except OSError as error:
        return _leave_output(error)
    except SystemExit as error:
        # typer and rich turn a closed pipe into SystemExit(1).
        if isinstance(error.__context__, BrokenPipeError):
            return _leave_pipe()
        raise
    return result if isinstance(result, int) else 0


def _run_checked(arguments: Sequence[str]) -> object:
    """Check the environment, then run a command; return its result.

    Raises:
        WorkError: memory ran out and no inner layer reported it.
        RequestError: a path is longer than the system allows, several processes run a command of
            one process, the environment of the job is incomplete, or the working folder is gone.
    """
    if launch.world_size() > 1 and (name := next(iter(arguments), "")) in _SINGLE_PROCESS:
        raise RequestError(f"{name} runs in one process: start it without torchrun")
    if problem := launch.find_problem():
        raise RequestError(problem)
    _check_working_folder()
    try:
        return app(args=list(arguments), prog_name="sortednet", standalone_mode=False)
    except MemoryError as error:
        raise WorkError("out of memory: the system gives this process no more") from error
    except RuntimeError as error:  # torch's allocators raise no MemoryError
        if "torch" not in sys.modules:
            raise
        if (reason := engine.lack_of_memory(error)) is None:
            raise
        raise WorkError(
            f"out of memory: {reason}; use a smaller sub-model or a device with more memory"
        ) from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise RequestError(f"{str(error.filename)[:60]}...: {error.strerror}") from error


def _check_working_folder() -> None:
    """RequestError if the working folder was deleted: torch could not load MKL then."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise RequestError(
            "the working folder no longer exists: change into another one"
        ) from error


def _is_reporter() -> bool:
    """Whether this process should report an error that occurred before the job was set up.

    The first process reports. `torchrun` ends all processes as soon as one ends, so the others
    wait. If one of them still runs after `_REPORT_DELAY_SECONDS`, the first process had no error,
    and this one reports its own.
    """
    if _is_first:
        return True
    try:
        time.sleep(_REPORT_DELAY_SECONDS)
    except (Stopped, KeyboardInterrupt):
        return False
    return True


def _leave_output(error: OSError) -> int:
    """Return the exit code of an error of standard output; raise any other error again."""
    if error.filename is None and error.errno in _CLOSED:
        return _leave_pipe()
    if error.filename is not None or error.errno not in _NO_SPACE:
        raise error
    _leave_pipe()
    sys.stderr.write(f"error: cannot write standard output: {error.strerror}\n")
    return 1


def _leave_pipe() -> int:
    """Discard buffered output, which would fail again while Python shuts down; return 0."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
    return 0


class _LossyStderr(io.TextIOWrapper):
    """Standard error that drops messages once its reader is gone, so that the work goes on."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self._discard()

    def _discard(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())


def _open_streams() -> None:
    """Set up the three standard streams; a closed one is connected to the null device.

    Standard output is UTF-8 with `\\n` line ends on every system, and keeps the bytes of file
    names.
    """
    # Fill the descriptors 0 to 2: a file opened later must not take the place of a closed stream.
    while (spare := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(spare)
    sys.stdin = sys.stdin or os.fdopen(_STDIN, encoding="utf-8")
    stdout = sys.stdout or os.fdopen(_STDOUT, "w", encoding="utf-8")
    if isinstance(stdout, io.TextIOWrapper):
        stdout.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")
    sys.stdout = stdout
    stderr = sys.stderr.buffer if sys.stderr else os.fdopen(_STDERR, "wb")
    encoding = sys.stderr.encoding if sys.stderr else "utf-8"
    sys.stderr = _LossyStderr(
        stderr, encoding=encoding, errors="backslashreplace", line_buffering=True
    )


def main() -> None:
    stop_at_signals()
    _open_streams()
    allocator.keep_freed_memory()
    code = run(sys.argv[1:])
    if launch.world_size() > 1 or leaves_threads():
        # Torch's compiler keeps a reference to the process group, so the group's threads still run
        # here. A thread that frees a tensor while Python shuts down would abort the process.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
