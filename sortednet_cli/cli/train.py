"""`sortednet train`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sortednet_cli import launch
from sortednet_cli.cli import options
from sortednet_cli.cli.render import (
    Talk,
    grid_table,
    print_json,
    rows_table,
    summary_line,
    talk_console,
)
from sortednet_cli.cli.stops import Stopped, StopRequest
from sortednet_cli.errors import RequestError, SortednetError

if TYPE_CHECKING:
    from sortednet_cli.engine.training.session import Finished, Fit, Progress
    from sortednet_cli.spec import RunSpec
    from sortednet_cli.storage.run import RunFolder


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
    from sortednet_cli.engine.training.preflight import check_begun, check_new

    if resume:
        if preset or config or overrides or data or out:
            raise RequestError("--resume takes everything from the run: give it no other setting")
        spec = None
        check_begun(_unfinished(run).spec())
    else:
        if run is not None:
            raise RequestError(f"{run}: a run is named with --out, or with --resume to go on")
        spec = options.read_spec(preset, config, overrides or [], data)
        if out is not None and not launch.restarts():
            options.check_free(out)
        check_new(spec)
        _place_of(spec, out)  # a name that is none is told before torch is imported
    from sortednet_cli.distributed.processes import joined
    from sortednet_cli.engine.training.session import Fit, open_fit
    from sortednet_cli.machine.device import choose_device

    place, allowed = choose_device(device), tuple(allow_factory or ())
    with joined(place) as processes:

        def start() -> Fit:
            if spec is None:
                return Fit.reopen(_unfinished(run), place, allowed, processes)
            if launch.restarts() and (begun := _begun(spec, out)):
                return Fit.reopen(begun, place, allowed, processes)
            path = _place_of(spec, out)
            return Fit.create(path, spec, place, processes, or_next=out is None)

        def again(path: Path) -> Fit:
            from sortednet_cli.storage.run import RunFolder

            names = [spec.model.factory] if spec and spec.model.factory else []
            return Fit.reopen(RunFolder.open(path), place, (*allowed, *names), processes)

        finished = _drive(open_fit(processes, start, again), quiet)
        if not processes.leads:
            return
    if as_json:
        records = [row.record("test") for row in finished.rows]
        print_json({"run": str(finished.run.path), "metric": finished.metric, "submodels": records})
    else:
        typer.echo(str(finished.run.path))


def _place_of(spec: RunSpec, out: Path | None) -> Path:
    from sortednet_cli.storage.run import default_place

    return out or default_place(spec.name)


def _begun(spec: RunSpec, out: Path | None) -> RunFolder | None:
    """The run that this command began before its job was started again."""
    from sortednet_cli.storage.run import RunFolder, newest_run

    if out is not None:
        return RunFolder.open(out) if out.exists() else None
    try:
        newest = newest_run(finished=False)
    except RequestError:
        return None
    return newest if newest.spec().name == spec.name else None


def _unfinished(run: Path | None) -> RunFolder:
    from sortednet_cli.storage.run import RunFolder, newest_run

    folder = newest_run(finished=False) if run is None else RunFolder.open(run)
    folder.require_unfinished()
    return folder


def _drive(fit: Fit, quiet: bool) -> Finished:
    """Show the events of a training until its last."""
    from sortednet_cli.engine.training.session import Finished, Interrupted, Progress

    stop = StopRequest()
    try:
        lock = fit.run.lock() if fit.processes.leads else nullcontext()
        with stop, lock, Talk(quiet) as talk:
            for event in fit.events(stop):
                if isinstance(event, Progress):
                    talk.update("train", event.update, event.total, _detail(event))
                elif not isinstance(event, Finished):
                    talk.update("score", event.done, event.total, event.row.submodel.name)
                else:
                    finished = event
    except SortednetError as error:
        if stop.number is not None:
            error.exit_code = 128 + stop.number
        raise
    except Stopped as stopped:
        cut = Interrupted(
            "stopped at once; go on from the last checkpoint with:"
            f" sortednet train --resume {fit.run.path}"
        )
        cut.exit_code = 128 + stopped.number
        raise cut from stopped
    if not quiet and fit.processes.leads:
        _show(finished)
    return finished


def _detail(event: Progress) -> str:
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
