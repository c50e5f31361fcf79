"""`sortednet eval`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from sortednet_cli.cli import options
from sortednet_cli.cli.render import Talk, data_console, print_json, rows_table, summary_line
from sortednet_cli.errors import RequestError


def evaluate(
    path: options.SourceArgument = None,
    width: options.WidthOption = None,
    depth: options.DepthOption = None,
    axis: options.AxisOption = None,
    every: Annotated[bool, typer.Option("--all", help="Score every sub-model.")] = False,
    split: Annotated[
        Literal["test", "validation", "train"], typer.Option("--split", help="Part of the data.")
    ] = "test",
    data: options.DataOption = None,
    allow_factory: options.AllowOption = None,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    verbose: options.VerboseOption = False,
) -> None:
    """Score a sub-model (the largest, unless axes are named), or all of them.

    Example: sortednet eval --width 0.75 --depth 4
    """
    options.set_verbosity(quiet, verbose)
    axes = options.read_axes(width, depth, axis)
    if every and axes:
        raise RequestError("--all scores every sub-model: name no axis with it")
    source = options.find_source(path, allow_factory, axes, lambda stored: stored.check_data(data))
    submodels = source.space.submodels if every else [source.space.resolve(axes)]

    from sortednet_cli.distributed.processes import joined
    from sortednet_cli.engine.evaluation.gather import gather_rows
    from sortednet_cli.engine.evaluation.score import evaluate as score
    from sortednet_cli.machine.device import choose_device

    place = choose_device(device)
    opened = source.open_data(None if data is None else str(data))
    rows = []
    with joined(place) as processes, Talk(quiet) as talk:
        for row in score(
            source, submodels, opened, splits=(split,), device=place, processes=processes
        ):
            rows.append(row)
            if every:
                done = len(rows) * processes.count
                talk.update("score", done, len(submodels), row.submodel.name)
        rows = gather_rows(processes, rows, source.space)
        if not processes.leads:
            return
    metric = source.task.metric
    if as_json:
        records = [row.record(split) for row in rows]
        print_json({"run": str(source.path), "metric": metric, "submodels": records})
        return
    console = data_console()
    console.print(rows_table(rows, split, metric))
    if every:
        console.print(summary_line(rows, split, metric))
