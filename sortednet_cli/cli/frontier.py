"""`sortednet frontier`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sortednet_cli.cli import options
from sortednet_cli.cli.render import data_console, print_json, rows_table
from sortednet_cli.cli.timing import Conditions, time_rows
from sortednet_cli.errors import RequestError
from sortednet_cli.logs import logger

if TYPE_CHECKING:
    from sortednet_cli.engine.evaluation.frontier import Frontier
    from sortednet_cli.engine.sources.source import Source
    from sortednet_cli.engine.sources.table import Row
    from sortednet_cli.space import Cost

PLOT_SUFFIXES = (".svg", ".png")


def frontier(
    path: options.SourceArgument = None,
    cost: Annotated[
        Literal["params", "macs", "latency"], typer.Option("--cost", help="What a score costs.")
    ] = "macs",
    max_params: options.MaxParamsOption = None,
    max_macs: options.MaxMacsOption = None,
    max_latency_ms: options.MaxLatencyOption = None,
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

    Example: sortednet frontier --max-params 50k --plot frontier.svg
    """
    options.set_verbosity(quiet, verbose)
    budget = options.read_budget(max_params, max_macs, max_latency_ms)
    if plot is not None and plot.suffix not in PLOT_SUFFIXES:
        raise RequestError(f"--plot {plot}: write a name that ends in .svg or .png")
    if plot is not None and not plot.absolute().parent.is_dir():
        raise RequestError(f"--plot {plot}: there is no folder {plot.absolute().parent}")
    if plot is not None and plot.is_dir():
        raise RequestError(f"--plot {plot}: it is a folder")
    source = options.find_source(
        path, allow_factory, check=lambda stored: stored.check_budget(budget)
    )

    from sortednet_cli.engine.evaluation.frontier import make_frontier, stored_rows

    name: Cost = "latency_ms" if cost == "latency" else cost
    rows = stored_rows(source)
    conditions: Conditions = {}
    if "latency_ms" in (name, budget.cost if budget else ""):
        rows, conditions = time_rows(source, rows, device, quiet)
    found = make_frontier(source, rows, name, budget)
    if plot is not None:
        from sortednet_cli.engine.evaluation.plot import draw_frontier

        draw_frontier(source, found, plot)
        logger.info("drew %s", plot)
    _print(source, found, conditions, every, as_json)


def _print(
    source: Source, found: Frontier, conditions: Conditions, every: bool, as_json: bool
) -> None:
    from sortednet_cli.engine.evaluation.frontier import SELECTION_SPLIT

    marks = dict(zip((row.submodel for row in found.rows), found.pareto, strict=True))

    def record(row: Row) -> dict[str, object]:
        return row.record(SELECTION_SPLIT, marks[row.submodel])

    if as_json:
        document: dict[str, object] = {
            "run": str(source.path),
            "metric": found.metric,
            "submodels": [record(row) for row in found.rows],
        }
        if conditions:
            document["latency"] = conditions
        if found.chosen is not None:
            document["chosen"] = record(found.chosen)
        print_json(document)
        return
    shown = [row for row in found.rows if every or marks[row.submodel]]
    if found.chosen is not None and not every:
        shown = [found.chosen]
    console = data_console()
    console.print(
        rows_table(shown, SELECTION_SPLIT, found.metric, [marks[row.submodel] for row in shown])
    )
    if found.chosen is None:
        console.print(
            f"{sum(found.pareto)} of {len(found.rows)} sub-models are on the frontier of"
            f" {SELECTION_SPLIT} {found.metric} against {found.cost}"
        )
