"""`sortednet frontier`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sortednet_cli import engine
from sortednet_cli.cli import options
from sortednet_cli.cli.extended import extended, value_of
from sortednet_cli.cli.render import (
    Progress,
    data_console,
    print_json,
    rows_table,
    tell_conditions,
)
from sortednet_cli.engine import FrontierRequest, SourceRequest

if TYPE_CHECKING:
    from sortednet_cli.engine import Frontier, Row

FrontierCommand = extended("plot", lambda: [*options.costs(), *options.bounds()])


def frontier(
    context: typer.Context,
    path: options.SourceArgument = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.svg|png", help="Draw the picture.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="List every sub-model.")] = False,
    allow_factory: options.AllowOption = None,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    verbose: options.VerboseOption = False,
) -> None:
    """Show the sub-models that no other beats on both validation score and cost.

    Bounds on several costs hold together.

    Example: sortednet frontier --max-params 50k --plot frontier.svg
    """
    options.set_verbosity(quiet, verbose)
    request = FrontierRequest(
        SourceRequest(path, tuple(allow_factory or ())),
        cost=value_of(context, "cost"),
        limits=options.read_limits(context),
        plot=plot,
        device=device,
    )
    with Progress(quiet) as progress:
        found = engine.frontier(request, progress.update)
    tell_conditions(found.conditions)
    _print(found, every, as_json)


def _print(found: Frontier, every: bool, as_json: bool) -> None:
    marks = dict(zip((row.submodel for row in found.rows), found.pareto, strict=True))

    def record(row: Row) -> dict[str, object]:
        return row.record(found.split, marks[row.submodel])

    if as_json:
        document: dict[str, object] = {
            "run": str(found.path),
            "metric": found.metric,
            "submodels": [record(row) for row in found.rows],
            **found.conditions,
        }
        if found.chosen is not None:
            document["chosen"] = record(found.chosen)
        print_json(document)
        return
    shown = [row for row in found.rows if every or marks[row.submodel]]
    if found.chosen is not None and not every:
        shown = [found.chosen]
    console = data_console()
    shown_marks = [marks[row.submodel] for row in shown]
    console.print(rows_table(shown, found.split, found.metric, shown_marks, found.priced))
    if found.chosen is None:
        console.print(
            f"{sum(found.pareto)} of {len(found.rows)} sub-models are on the frontier of"
            f" {found.split} {found.metric} against {found.cost.name}"
        )
