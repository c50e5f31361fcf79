"""`sortednet frontier`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sortednet_cli import engine
from sortednet_cli.cli import options
from sortednet_cli.cli.extended import extended, value_of
from sortednet_cli.cli.render import (
    Progress,
    data_console,
    log_conditions,
    print_json,
    rows_table,
    show_score,
)
from sortednet_cli.engine import FrontierRequest, SourceRequest
from sortednet_cli.logs import logger

if TYPE_CHECKING:
    from sortednet_cli.engine import Frontier, Row
    from sortednet_cli.space import SubModel

FrontierCommand = extended("plot", lambda: [*options.costs(), *options.bounds()])


def frontier(
    context: typer.Context,
    path: options.SourceArgument = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE.svg|png|html",
            help="Plot score against cost to a file; as HTML, write the page of `report`.",
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="List every sub-model.")] = False,
    runtime: options.RuntimeOption = None,
    latencies: options.LatenciesOption = None,
    min_score: options.MinScoreOption = None,
    junit: options.JunitOption = None,
    allow_factory: options.AllowOption = None,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    verbose: options.VerboseOption = False,
) -> None:
    """Show the sub-models that no other beats on both validation score and cost.

    If several costs are bounded, the chosen sub-model satisfies all bounds. With --min-score, the
    chosen sub-model must reach it, or without a bound the best one.

    Example: sortednet frontier --max-params 50k --plot frontier.svg
    """
    options.set_verbosity(quiet, verbose)
    request = FrontierRequest(
        SourceRequest(path, tuple(allow_factory or ())),
        cost=value_of(context, "cost"),
        limits=options.read_limits(context),
        plot=plot,
        device=device,
        min_score=min_score,
        junit=junit,
        runtime=runtime,
        latencies=latencies,
    )
    with Progress(quiet) as progress:
        result = engine.frontier(request, progress.update)
    log_conditions(result.conditions)
    marks = dict(zip((row.submodel for row in result.rows), result.pareto, strict=True))
    if as_json:
        print_json(_document(result, marks))
    else:
        _print_table(result, marks, every)
    options.require_score(result.missed)


def _document(result: Frontier, marks: Mapping[SubModel, bool]) -> dict[str, object]:
    def record(row: Row) -> dict[str, object]:
        return row.record(result.split, marks[row.submodel])

    document: dict[str, object] = {
        "run": str(result.path),
        "metric": result.metric,
        "submodels": [record(row) for row in result.rows],
        **result.conditions,
    }
    if result.chosen is not None:
        document["chosen"] = record(result.chosen)
    return document


def _print_table(result: Frontier, marks: Mapping[SubModel, bool], every: bool) -> None:
    """Print all rows, or the chosen one, or those on the frontier."""
    if every:
        rows = list(result.rows)
    elif result.chosen is not None:
        rows = [result.chosen]
    else:
        rows = [row for row in result.rows if marks[row.submodel]]
    console = data_console()
    row_marks = [marks[row.submodel] for row in rows]
    console.print(rows_table(rows, result.split, result.metric, row_marks, result.measured_costs))
    if result.chosen is not None and (better := result.better_than(result.chosen)) is not None:
        logger.info(
            "not on the frontier: %s scores %s for less (%s %s)",
            better.submodel,
            show_score(result.metric, better.metrics[result.split][result.metric]),
            result.cost.name,
            result.cost.show(result.cost.value(better)),
        )
    if result.chosen is None:
        console.print(
            f"{sum(result.pareto)} of {len(result.rows)} sub-models are on the frontier of"
            f" {result.split} {result.metric} against {result.cost.name}"
        )
