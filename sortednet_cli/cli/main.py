"""The command line: commands, and how errors end. No torch is imported here."""

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

from sortednet_cli import allocator, engine, launch
from sortednet_cli.cli.evaluate import evaluate
from sortednet_cli.cli.extract import ExtractCommand, extract
from sortednet_cli.cli.frontier import FrontierCommand, frontier
from sortednet_cli.cli.generate import generate
from sortednet_cli.cli.info import info
from sortednet_cli.cli.presets import presets
from sortednet_cli.cli.stops import Stopped, stop_at_signals
from sortednet_cli.cli.train import train
from sortednet_cli.errors import RequestError, SortednetError, WorkError, plain

# Newer typer brings its own copy of click, older uses the installed one; both export this class
# alone of its errors; all that a wrong command line can raise is of the class above it.
_UsageError: Any = typer.BadParameter.__base__

_STDIN, _STDOUT, _STDERR = range(3)
_CLOSED = (errno.EPIPE, errno.EINVAL) if sys.platform == "win32" else (errno.EPIPE,)
"""What writing into a pipe fails with whose reader has gone."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

_ALONE = ("extract", "frontier", "generate")

_talks = launch.rank() == 0
"""Every process of a job reads the same command line: one of them speaks of it."""

_PATIENCE_SECONDS = 30.0
"""How long the others wait for it to have spoken."""

_BUG = (
    "error: this is a bug of sortednet and no mistake of yours: please report it with the traceback"
    " above, the command, and what `sortednet --version` says\n"
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
app.command()(train)
app.command("eval")(evaluate)
app.command(cls=FrontierCommand)(frontier)
app.command(cls=ExtractCommand)(extract)
app.command()(generate)
app.command()(presets)
app.command()(info)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version."),
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("sortednet-cli"))
        raise typer.Exit


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; a bug is shown as one, with its traceback.

    Torch's `record` would hand errors to `torchrun`, which prints a traceback for each of them.
    """
    try:
        return _run(arguments)
    except Exception:
        traceback.print_exc()
        sys.stderr.write(_BUG)
        return 1


def _run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code.

    0 done; 1 the work failed; 2 the request was wrong; 128 and a signal's number (130, 143)
    interrupted by it. A reader who closes the pipe has what they wanted: that ends quietly with 0.
    """
    try:
        result = _within_the_system(arguments)
        sys.stdout.flush()
    except _UsageError as error:
        if _tells():
            shown = io.StringIO()
            error.show(shown)
            # Newer typer names a kind of error that says nothing to a user.
            sys.stderr.write(plain(shown.getvalue()).replace(" Value error,", ""))
        return 2
    except SortednetError as error:
        if _tells() if error.report_here is None else error.report_here:
            sys.stderr.write(f"error: {plain(str(error))}\n")
        return error.exit_code
    except (Stopped, KeyboardInterrupt, typer.Abort) as stopped:
        if _talks:
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


def _within_the_system(arguments: Sequence[str]) -> object:
    """Run a command.

    Raises:
        WorkError: it needs more memory than there is, and nobody said for what.
        RequestError: a name in it is longer than any file's can be (all options have this bound),
            many processes were started for what one does, a job is none, or the working folder
            is gone.
    """
    if launch.world_size() > 1 and (name := next(iter(arguments), "")) in _ALONE:
        raise RequestError(f"{name} is the work of one process: start it without torchrun")
    if reason := launch.trouble():
        raise RequestError(reason)
    _check_folder()
    try:
        return app(args=list(arguments), prog_name="sortednet", standalone_mode=False)
    except MemoryError as error:
        raise WorkError("out of memory: this process may have no more of it") from error
    except RuntimeError as error:  # torch's, whose allocators know no MemoryError
        if "torch" not in sys.modules:
            raise
        if (reason := engine.lack_of_memory(error)) is None:
            raise
        raise WorkError(
            f"out of memory: {reason}; take a smaller sub-model, or a device with more"
        ) from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise RequestError(f"{str(error.filename)[:60]}...: {error.strerror}") from error


def _check_folder() -> None:
    """RequestError if the working folder is gone: torch's MKL could not be loaded then."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise RequestError("the working folder is gone: change into one that exists") from error


def _tells() -> bool:
    """Whether it is for this process to say what went wrong before its job came together.

    The first one does, and `torchrun` ends all of them as soon as any has ended: another one must
    not be faster. If it is not ended within its patience, the first one has nothing to say, and
    it is this one alone that cannot go on.
    """
    if _talks:
        return True
    try:
        time.sleep(_PATIENCE_SECONDS)
    except (Stopped, KeyboardInterrupt):
        return False
    return True


def _leave_output(error: OSError) -> int:
    """End after standard output took no more; raise what has another reason."""
    if error.filename is None and error.errno in _CLOSED:
        return _leave_pipe()
    if error.filename is not None or error.errno not in _NO_ROOM:
        raise error
    _leave_pipe()
    sys.stderr.write(f"error: cannot write standard output: {error.strerror}\n")
    return 1


def _leave_pipe() -> int:
    """What is still buffered must not fail again while Python shuts down."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
    return 0


class _LossyStderr(io.TextIOWrapper):
    """Standard error that nobody need read: talk is lost with its reader, work is not."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self._let_go()

    def _let_go(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())


def _open_streams() -> None:
    """Three streams in any case: a closed one leads nowhere.

    Data is UTF-8 with plain line ends on every system, and names of files keep their bytes.
    """
    while (spare := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass  # or the next file to be opened would be what others write to as a stream
    os.close(spare)
    sys.stdin = sys.stdin or os.fdopen(_STDIN, encoding="utf-8")
    data = sys.stdout or os.fdopen(_STDOUT, "w", encoding="utf-8")
    if isinstance(data, io.TextIOWrapper):
        data.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")
    sys.stdout = data
    talk = sys.stderr.buffer if sys.stderr else os.fdopen(_STDERR, "wb")
    encoding = sys.stderr.encoding if sys.stderr else "utf-8"
    sys.stderr = _LossyStderr(
        talk, encoding=encoding, errors="backslashreplace", line_buffering=True
    )


def main() -> None:
    stop_at_signals()
    _open_streams()
    allocator.keep_freed_memory()
    code = run(sys.argv[1:])
    if launch.world_size() > 1:
        # The group's threads outlive it, for torch keeps a reference once its compiler is imported.
        # One that lets go of a tensor while Python shuts down aborts the process, work done or not.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
