"""`sortednet train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sortednet_cli import engine, launch
from sortednet_cli.cli import options
from sortednet_cli.cli.render import (
    Progress,
    grid_table,
    message_console,
    print_json,
    rows_table,
    summary_line,
)
from sortednet_cli.cli.stops import Stopped, StopRequest
from sortednet_cli.engine import Finished, Interrupted, Scored, Started, TrainRequest, Updated
from sortednet_cli.errors import RequestError, SortednetError, as_word

_RunArgument = Annotated[
    Path | None,
    typer.Argument(metavar="RUN", help="With --resume: the run to resume."),
]
_OutOption = Annotated[
    Path | None, typer.Option("--out", help="The run's folder. Default: runs/NAME.")
]
_ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Resume a run (default: the newest unfinished).")
]


def train(
    run: _RunArgument = None,
    preset: options.PresetOption = None,
    config: options.ConfigOption = None,
    overrides: options.SetOption = None,
    data: options.DataOption = None,
    out: _OutOption = None,
    resume: _ResumeOption = False,
    allow_factory: options.AllowOption = None,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    verbose: options.VerboseOption = False,
) -> None:
    """Train a nested network; print the run's folder.

    Example: sortednet train --preset digits-resnet
    """
    options.set_verbosity(quiet, verbose)
    if resume:
        if preset or config or overrides or data or out:
            raise RequestError(
                "--resume takes every setting from the run: remove --preset, --config, --set,"
                " --data and --out"
            )
        spec = None
    else:
        if run is not None:
            raise RequestError(
                f"{run}: RUN is only for --resume; name the folder of a new run with --out"
            )
        spec = options.read_spec(preset, config, overrides or [], data)
    request = TrainRequest(spec, out, run, tuple(allow_factory or ()), device)
    finished = _run_training(request, quiet)
    if launch.rank() > 0:
        return
    if not quiet:
        _show(finished)
    if as_json:
        records = [row.record("test") for row in finished.rows]
        print_json({"run": str(finished.run), "metric": finished.metric, "submodels": records})
    else:
        typer.echo(str(finished.run))


def _run_training(request: TrainRequest, quiet: bool) -> Finished:
    """Train, show progress, and return the last event.

    Raises:
        Interrupted: a signal stopped the training; the exit code is 128 and the signal's number.
    """
    stop, path = StopRequest(), None
    try:
        with stop, Progress(quiet) as progress:
            for event in engine.train(request, stop):
                match event:
                    case Started(run):
                        path = run
                    case Updated(update, total):
                        progress.update("train", update, total, _detail(event))
                    case Scored(row, done, total):
                        progress.update("score", done, total, row.submodel.name)
                    case Finished():
                        finished = event
    except SortednetError as error:
        if stop.number is not None:
            error.exit_code = 128 + stop.number
        raise
    except Stopped as stopped:
        if path is None:
            raise
        interrupted = Interrupted(
            "stopped at once; resume from the last checkpoint with:"
            f" sortednet train --resume {as_word(path)}"
        )
        interrupted.exit_code = 128 + stopped.number
        raise interrupted from stopped
    return finished


def _detail(event: Updated) -> str:
    first, others = event.submodels[0], len(event.submodels) - 1
    submodels = f"{first} and {others} more" if others else str(first)
    return f"loss {event.loss:.3f}  {event.samples_per_second:.0f} samples/s  {submodels}"


def _show(finished: Finished) -> None:
    console = message_console()
    table = grid_table(finished.rows, "test", finished.metric)
    console.print(table or rows_table(finished.rows, "test", finished.metric))
    console.print(summary_line(finished.rows, "test", finished.metric))
    console.print(
        f"trained in {finished.train_seconds:.0f} s, scored in {finished.score_seconds:.0f} s"
    )
