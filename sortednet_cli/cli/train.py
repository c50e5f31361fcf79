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
    print_json,
    rows_table,
    summary_line,
    talk_console,
)
from sortednet_cli.cli.stops import Stopped, StopRequest
from sortednet_cli.engine import Finished, Interrupted, Scored, Started, TrainRequest, Updated
from sortednet_cli.errors import RequestError, SortednetError


def train(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="With --resume: the run to go on with."),
    ] = None,
    preset: options.PresetOption = None,
    config: options.ConfigOption = None,
    overrides: options.SetOption = None,
    data: options.DataOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The run's folder. Default: runs/NAME.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run (default: the newest unfinished).")
    ] = False,
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
            raise RequestError("--resume takes everything from the run: give it no other setting")
        spec = None
    else:
        if run is not None:
            raise RequestError(f"{run}: a run is named with --out, or with --resume to go on")
        spec = options.read_spec(preset, config, overrides or [], data)
    request = TrainRequest(spec, out, run, tuple(allow_factory or ()), device)
    finished = _follow(request, quiet)
    if launch.rank() > 0:
        return
    if not quiet:
        _show(finished)
    if as_json:
        records = [row.record("test") for row in finished.rows]
        print_json({"run": str(finished.run), "metric": finished.metric, "submodels": records})
    else:
        typer.echo(str(finished.run))


def _follow(request: TrainRequest, quiet: bool) -> Finished:
    """Show the events of a training until its last."""
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
        cut = Interrupted(
            f"stopped at once; go on from the last checkpoint with: sortednet train --resume {path}"
        )
        cut.exit_code = 128 + stopped.number
        raise cut from stopped
    return finished


def _detail(event: Updated) -> str:
    first, others = event.submodels[0], len(event.submodels) - 1
    named = f"{first} and {others} more" if others else str(first)
    return f"loss {event.loss:.3f}  {event.samples_per_second:.0f} samples/s  {named}"


def _show(finished: Finished) -> None:
    console = talk_console()
    table = grid_table(finished.rows, "test", finished.metric)
    console.print(table or rows_table(finished.rows, "test", finished.metric))
    console.print(summary_line(finished.rows, "test", finished.metric))
    console.print(
        f"trained in {finished.train_seconds:.0f} s, scored in {finished.score_seconds:.0f} s"
    )
