"""`sortednet eval`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sortednet_cli import engine
from sortednet_cli.cli import options
from sortednet_cli.cli.render import Progress, data_console, print_json, rows_table, summary_line
from sortednet_cli.engine import EvaluateRequest, SourceRequest
from sortednet_cli.errors import RequestError

if TYPE_CHECKING:
    from sortednet_cli.engine import Evaluation


def evaluate(
    path: options.SourceArgument = None,
    width: options.WidthOption = None,
    depth: options.DepthOption = None,
    axis: options.AxisOption = None,
    every: Annotated[bool, typer.Option("--all", help="Score every sub-model.")] = False,
    split: Annotated[
        Literal["test", "validation", "train"],
        typer.Option("--split", help="Part of the data to score on."),
    ] = "test",
    min_score: options.MinScoreOption = None,
    junit: options.JunitOption = None,
    data: options.DataOption = None,
    allow_factory: options.AllowOption = None,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    verbose: options.VerboseOption = False,
) -> None:
    """Score one sub-model (by default the largest), or all of them.

    With --min-score, each of them must reach it.

    Example: sortednet eval --width 0.75 --depth 4
    """
    options.set_verbosity(quiet, verbose)
    axes = options.read_axes(width, depth, axis)
    if every and axes:
        raise RequestError("--all scores every sub-model: remove --width, --depth and --axis")
    request = EvaluateRequest(
        SourceRequest(path, tuple(allow_factory or ())),
        axes,
        every,
        split,
        data,
        device,
        min_score,
        junit,
    )
    with Progress(quiet) as progress:
        evaluation = engine.evaluate(request, progress.update if every else engine.no_report)
    if evaluation is not None:  # only the first process of a job has the rows
        _print(evaluation, every, as_json)
        options.require_score(evaluation.missed)


def _print(evaluation: Evaluation, every: bool, as_json: bool) -> None:
    rows, split, metric = evaluation.rows, evaluation.split, evaluation.metric
    if as_json:
        records = [row.record(split) for row in rows]
        print_json({"run": str(evaluation.path), "metric": metric, "submodels": records})
        return
    console = data_console()
    console.print(rows_table(rows, split, metric))
    if every:
        console.print(summary_line(rows, split, metric))
