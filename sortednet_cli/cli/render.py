"""Output of the commands: tables and JSON on stdout, progress and messages on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sortednet_cli import launch
from sortednet_cli.logs import logger
from sortednet_cli.space import format_count

if TYPE_CHECKING:
    # At run time rich is imported where it is used, so that --help and errors do without it.
    from rich.console import Console
    from rich.progress import Progress as ProgressBar
    from rich.table import Table

    from sortednet_cli.engine import Conditions, Cost, Row

PLAIN_SECONDS = 10.0
"""Least time between two progress lines where there is no terminal."""

PIPE_WIDTH = 200
"""Columns of a table where there is no terminal."""


def data_console() -> Console:
    """Return a console on stdout; in a pipe it is wide, so that rows are not wrapped."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def message_console() -> Console:
    """Return a console on stderr, as wide as `data_console`."""
    from rich.console import Console

    return Console(stderr=True, width=None if sys.stderr.isatty() else PIPE_WIDTH, highlight=False)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def show_score(metric: str, value: float) -> str:
    """Format an accuracy in percent, any other metric as a number."""
    return f"{100 * value:.2f}%" if metric == "accuracy" else f"{value:.4g}"


def rows_table(
    rows: Sequence[Row],
    split: str,
    metric: str | None,
    marks: Sequence[bool] | None = None,
    costs: Sequence[Cost] = (),
) -> Table:
    """Make a table with one line for each sub-model.

    Args:
        metric: the metric to show beside the loss; None for neither.
        marks: for each row, whether it is on the frontier.
        costs: costs to show besides parameters and multiply-adds.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("sub-model")
    scores = () if metric is None else (f"{split} {metric}", "loss")
    for title in ("params", "MACs", *scores):
        table.add_column(title, justify="right")
    for cost in costs:
        table.add_column(cost.title, justify="right")
    tasks = harness_columns(rows)
    for task, name in tasks:
        table.add_column(f"{task} {name.removesuffix(',none')}", justify="right")
    if marks is not None:
        table.add_column("frontier")
    for i, row in enumerate(rows):
        cells = [row.submodel.name, format_count(row.params), format_count(row.macs)]
        if metric is not None:
            metrics = row.metrics[split]
            cells += [show_score(metric, metrics[metric]), f"{metrics['loss']:.4f}"]
        cells += [_show_cost(cost, row) for cost in costs]
        cells += [_show_harness(row, *column) for column in tasks]
        if marks is not None:
            cells.append("*" if marks[i] else "")
        table.add_row(*cells)
    return table


def harness_columns(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """List the tasks of lm-eval that rows were scored on, with each metric but its errors."""
    found = {
        (task, name): None for row in rows for task, own in row.harness.items() for name in own
    }
    return [pair for pair in found if "," in pair[1] and "_stderr," not in pair[1]]


def _show_harness(row: Row, task: str, name: str) -> str:
    value = row.harness.get(task, {}).get(name)
    return "" if value is None else f"{value:.4g}"


def _show_cost(cost: Cost, row: Row) -> str:
    value = cost.of(row)
    return "" if value is None else cost.show(value)


def grid_table(rows: Sequence[Row], split: str, metric: str) -> Table | None:
    """Make a width x depth grid of scores; return None for any other search space."""
    from rich.table import Table

    if not rows or set(rows[0].submodel.axes) != {"width", "depth"}:
        return None
    cells = {tuple(row.submodel.axes.values()): row.metrics[split][metric] for row in rows}
    widths = sorted({width for width, _ in cells})
    depths = sorted({depth for _, depth in cells})
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("width", justify="right")
    for depth in depths:
        table.add_column(f"d{depth}", justify="right")
    for width in widths:
        scores = [cells.get((width, depth)) for depth in depths]
        texts = ["" if s is None else show_score(metric, s).rstrip("%") for s in scores]
        table.add_row(f"{width:g}", *texts)
    return table


def summary_line(rows: Sequence[Row], split: str, metric: str) -> str:
    """Summarise the scores in one sentence."""
    scores = [row.metrics[split][metric] for row in rows]
    largest = max(rows, key=lambda row: row.macs)
    smallest = min(rows, key=lambda row: row.macs)
    worst = min(scores) if metric == "accuracy" else max(scores)

    def show(value: float) -> str:
        return show_score(metric, value)

    return (
        f"{len(rows)} sub-models, {split} {metric}:"
        f" largest {show(largest.metrics[split][metric])},"
        f" smallest ({100 * smallest.macs / largest.macs:.1f}% of the MACs)"
        f" {show(smallest.metrics[split][metric])},"
        f" mean {show(sum(scores) / len(scores))}, worst {show(worst)}"
    )


class Progress:
    """Progress on stderr: a live bar on a terminal, elsewhere a line every few seconds."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet or launch.rank() > 0
        self._bar: ProgressBar | None = None
        self._task: Any = None
        self._title = ""
        self._last = 0.0

    def __enter__(self) -> Progress:
        if sys.stderr.isatty() and not self._quiet:
            self._bar = _make_bar()
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, title: str, done: int, total: int, detail: str) -> None:
        """Show that `done` of `total` steps of the work called `title` are done."""
        if self._bar is not None:
            if title != self._title:
                self._task = self._bar.add_task(title, total=total, detail="")
            self._bar.update(self._task, completed=done, total=total, detail=detail)
        elif time.monotonic() - self._last > PLAIN_SECONDS or done == total:
            self._last = time.monotonic()
            logger.info("%s %d/%d  %s", title, done, total, detail)
        self._title = title


def log_conditions(conditions: Mapping[str, Conditions]) -> None:
    """Log the conditions under which costs were measured, such as device and threads."""
    for quantity, values in conditions.items():
        text = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in values.items())
        logger.info("%s: %s", quantity, text)


def _make_bar() -> ProgressBar:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as ProgressBar

    return ProgressBar(
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
        console=message_console(),
    )
