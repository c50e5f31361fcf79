"""The frontier, and the best sub-model for a budget: always chosen on validation data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sortednet_cli.engine.sources.source import Source
from sortednet_cli.engine.sources.table import Row, mark_frontier, score
from sortednet_cli.errors import RequestError
from sortednet_cli.space import Budget, Cost
from sortednet_cli.storage.sources import require_scores

SELECTION_SPLIT = "validation"


@dataclass(frozen=True)
class Frontier:
    """All rows of a run with the frontier marked, and the choice for a budget if asked."""

    rows: Sequence[Row]
    pareto: Sequence[bool]
    cost: Cost
    metric: str
    higher_is_better: bool
    chosen: Row | None


def stored_rows(source: Source) -> list[Row]:
    """The rows scored when training ended, from the cheapest.

    Raises:
        RequestError: one has no score, or there are none.
    """
    rows = source.rows.values()
    require_scores(source.path, rows)
    for row in rows:
        scores = row.metrics.get(SELECTION_SPLIT, {})
        if not {source.task.metric, "loss"} <= scores.keys():
            raise RequestError(
                f"the table of {source.path} is damaged: {row.submodel} has no"
                f" {SELECTION_SPLIT} {source.task.metric} and loss"
            )
    return sorted(rows, key=lambda row: (row.macs, row.params))


def make_frontier(
    source: Source, rows: Sequence[Row], cost: Cost, budget: Budget | None
) -> Frontier:
    """Mark the frontier of `rows` by `cost` and choose within the budget."""
    task = source.task
    pareto = mark_frontier(rows, SELECTION_SPLIT, task.metric, task.higher_is_better, cost)
    chosen = None if budget is None else choose(source, rows, budget)
    return Frontier(rows, pareto, cost, task.metric, task.higher_is_better, chosen)


def choose(source: Source, rows: Sequence[Row], budget: Budget) -> Row:
    """Pick the best row within a budget by validation score; RequestError if none fits."""
    task = source.task
    candidates = [
        (
            row,
            score(row, SELECTION_SPLIT, task.metric, task.higher_is_better),
            row.cost(budget.cost),
        )
        for row in rows
    ]
    return budget.choose(candidates)
