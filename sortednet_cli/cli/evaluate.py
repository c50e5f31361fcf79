"""`sortednet eval`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from sortednet_cli import engine
from sortednet_cli.cli import options
from sortednet_cli.cli.render import Progress, data_console, print_json, rows_table, summary_line
from sortednet_cli.engine import EvaluateRequest, SourceRequest
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
    request = EvaluateRequest(
        SourceRequest(path, tuple(allow_factory or ())), axes, every, split, data, device
    )
    with Progress(quiet) as progress:
        found = engine.evaluate(request, progress.update if every else engine.no_report)
    if found is None:  # another process of the job has the rows
        return
    if as_json:
        records = [row.record(split) for row in found.rows]
        print_json({"run": str(found.path), "metric": found.metric, "submodels": records})
        return
    console = data_console()
    console.print(rows_table(found.rows, split, found.metric))
    if every:
        console.print(summary_line(found.rows, split, found.metric))
