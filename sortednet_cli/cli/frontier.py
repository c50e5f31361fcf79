"""`sortednet frontier`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sortednet_cli.cli import options
from sortednet_cli.cli.extended import extended, value_of
from sortednet_cli.cli.pricing import reporting, tell_conditions
from sortednet_cli.cli.render import data_console, print_json, rows_table
from sortednet_cli.errors import RequestError
from sortednet_cli.logs import logger

if TYPE_CHECKING:
    from sortednet_cli.engine.evaluation.frontier import Frontier
    from sortednet_cli.engine.sources.source import Source
    from sortednet_cli.engine.sources.table import Row

PLOT_SUFFIXES = (".svg", ".png")

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
    from sortednet_cli.engine.evaluation.budget import check_selection
    from sortednet_cli.engine.evaluation.costs import find_cost

    options.set_verbosity(quiet, verbose)
    cost = find_cost(value_of(context, "cost"))
    budget = options.read_budget(context)
    _check_plot(plot)
    source = options.find_source(
        path, allow_factory, check=lambda stored: check_selection(stored, budget)
    )

    from sortednet_cli.engine.evaluation.frontier import make_frontier

    with reporting(quiet) as report:
        found = make_frontier(source, cost, budget, device, report)
    tell_conditions(found.conditions)
    if plot is not None:
        from sortednet_cli.engine.evaluation.plot import draw_frontier

        draw_frontier(source, found, plot)
        logger.info("drew %s", plot)
    _print(source, found, every, as_json)


def _check_plot(plot: Path | None) -> None:
    """RequestError if no picture can be written there."""
    if plot is None:
        return
    if plot.suffix not in PLOT_SUFFIXES:
        raise RequestError(f"--plot {plot}: write a name that ends in .svg or .png")
    if not plot.absolute().parent.is_dir():
        raise RequestError(f"--plot {plot}: there is no folder {plot.absolute().parent}")
    if plot.is_dir():
        raise RequestError(f"--plot {plot}: it is a folder")


def _print(source: Source, found: Frontier, every: bool, as_json: bool) -> None:
    from sortednet_cli.engine.evaluation.frontier import SELECTION_SPLIT

    marks = dict(zip((row.submodel for row in found.rows), found.pareto, strict=True))

    def record(row: Row) -> dict[str, object]:
        return row.record(SELECTION_SPLIT, marks[row.submodel])

    if as_json:
        document: dict[str, object] = {
            "run": str(source.path),
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
    console.print(rows_table(shown, SELECTION_SPLIT, found.metric, shown_marks, found.priced))
    if found.chosen is None:
        console.print(
            f"{sum(found.pareto)} of {len(found.rows)} sub-models are on the frontier of"
            f" {SELECTION_SPLIT} {found.metric} against {found.cost.name}"
        )
