"""What a report holds of each run: rows, costs, frontiers, curves and layers, as JSON values."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from sortednet_cli.engine.evaluation.costs import Cost
from sortednet_cli.engine.evaluation.frontier import (
    SELECTION_SPLIT,
    CostTable,
    pareto,
    score_of,
)
from sortednet_cli.engine.reporting.comparison import share_data
from sortednet_cli.engine.reporting.curves import read_curves
from sortednet_cli.engine.requests import Progress
from sortednet_cli.engine.sources.describe import describe
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.logs import logger
from sortednet_cli.storage.sources import StoredSource

if TYPE_CHECKING:
    from sortednet_cli.engine.sources.source import Source

_FACTS = ("kind", "family", "rule", "data", "train_seconds")
"""What the page says of each run, of what `info` prints."""

_MOST_TABLES = 1024
"""Most sub-models whose layer tables are stored: those of 160 MobileNetV2s take 0.2 MB."""

Document = dict[str, Any]


def make_document(
    sources: Sequence[tuple[StoredSource, Callable[[], Source]]],
    costs: Sequence[Cost],
    device: str,
    progress: Progress,
    measured: Sequence[Row] = (),
) -> Document:
    """Collect what a page shows of runs that have one metric.

    Args:
        sources: each run with the function that opens it.
        costs: the costs to get for all sub-models.
        device: device on which costs are measured, as `--device` takes it.
        measured: rows of the first run with costs that are not measured again.
    """
    measure, same_data = sources[0][0].measure, share_data([stored for stored, _ in sources])
    if not same_data:
        logger.warning("these runs were scored on different data: their scores do not compare")
    # The order in which a budget compares the costs of equal scores.
    costs = sorted(costs, key=lambda cost: (cost.effort, cost.name))
    return {
        "metric": measure.metric,
        "higher_is_better": measure.higher_is_better,
        "split": SELECTION_SPLIT,
        "same_data": same_data,
        "costs": [_cost_record(cost, device) for cost in costs],
        "runs": [
            _run_record(*each, costs, device, progress, () if at else measured)
            for at, each in enumerate(sources)
        ],
    }


def _cost_record(cost: Cost, device: str) -> Document:
    return {
        "name": cost.name,
        "label": cost.label,
        "is_count": not cost.unit,
        "units": cost.units,
        "conditions": dict(cost.conditions(device)),
    }


def _run_record(
    stored: StoredSource,
    opened: Callable[[], Source],
    costs: Sequence[Cost],
    device: str,
    progress: Progress,
    measured: Sequence[Row],
) -> Document:
    opened = cache(opened)

    def report_cost(cost: Cost, done: int, total: int, row: Row) -> None:
        progress(cost.quantity, done, total, row.submodel.name)

    table = CostTable(stored, opened, device, report_cost, measured)
    for cost in costs:
        table.add(cost)
    rows, space = table.rows, stored.space
    assert space is not None
    facts, path = describe(stored.path), str(stored.path)
    metric = stored.measure.metric
    return {
        "path": path,
        "arguments": _arguments(stored),
        "facts": {name: facts[name] for name in _FACTS if name in facts},
        "axes": [name for name, _ in space.axes],
        "names": [row.submodel.name for row in rows],
        "values": [[row.submodel.axes[name] for name, _ in space.axes] for row in rows],
        "scores": _scores(rows, SELECTION_SPLIT, metric),
        "test_scores": _scores(rows, "test", metric),
        "costs": {cost.name: _cost_column(cost, rows, stored) for cost in costs},
        "curves": read_curves(stored),
        "layers": _layers(opened, rows, progress),
    }


def _arguments(stored: StoredSource) -> list[str]:
    """What names the run on a command line, and allows its factory if it has one."""
    factory = stored.factory
    allowed = [] if factory is None else [f"--allow-factory {shlex.quote(factory)}"]
    return [shlex.quote(str(stored.path)), *allowed]


def _scores(rows: Sequence[Row], split: str, metric: str) -> list[float | None]:
    """The scores; None for one that is not finite, which JSON cannot hold."""
    values = [row.metrics.get(split, {}).get(metric, math.nan) for row in rows]
    return [value if math.isfinite(value) else None for value in values]


def _cost_column(cost: Cost, rows: Sequence[Row], stored: StoredSource) -> Document:
    values = [cost.value(row) for row in rows]
    points = [(score_of(stored.measure, row), v) for row, v in zip(rows, values, strict=True)]
    return {
        "values": values,
        "shown": [cost.show(value) for value in values],
        "frontier": [i for i, mark in enumerate(pareto(points)) if mark],
    }


def _layers(
    opened: Callable[[], Source], rows: Sequence[Row], progress: Progress
) -> Document | None:
    if len(rows) > _MOST_TABLES:
        return None

    from sortednet_cli.engine.reporting.layers import layer_tables

    return layer_tables(
        opened(),
        [row.submodel for row in rows],
        lambda done, submodel: progress("layers", done, len(rows), submodel.name),
    )
