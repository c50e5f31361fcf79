"""The frontier, and the best sub-model for a budget: always chosen on validation data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sortednet_cli.engine.evaluation.budget import Budget
from sortednet_cli.engine.evaluation.costs import Conditions, Cost
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.errors import RequestError
from sortednet_cli.storage.sources import require_scores
from sortednet_cli.tasks import Task

SELECTION_SPLIT = "validation"

Report = Callable[[Cost, int, int, Row], None]
"""Is told of each value of a cost: how many are done, of how many, and of which row."""


def _silent(cost: Cost, done: int, total: int, row: Row) -> None:
    """Report to nobody."""


@dataclass(frozen=True)
class Frontier:
    """All rows of a run with the frontier marked, and the choice for a budget if asked.

    Attributes:
        split: the part of the data whose scores count.
        measured_costs: the costs measured for the rows, besides those that the table stores.
        conditions: by quantity, what measured costs must be quoted with.
    """

    path: Path
    split: str
    rows: Sequence[Row]
    pareto: Sequence[bool]
    cost: Cost
    metric: str
    higher_is_better: bool
    chosen: Row | None
    measured_costs: Sequence[Cost]
    conditions: Mapping[str, Conditions]


@dataclass(frozen=True)
class Choice:
    """The best row within a budget; `conditions` as in `Frontier`."""

    row: Row
    conditions: Mapping[str, Conditions]


class PricedRows:
    """The rows of a source with those of their costs that somebody asked for.

    Args:
        device: where costs are measured, as `--device` names it.

    Attributes:
        costs: what was asked for and is not stored.
    """

    def __init__(self, source: Source, device: str = "auto", report: Report = _silent) -> None:
        self._source = source
        self._device = device
        self._report = report
        self._rows = {row.submodel: row for row in stored_rows(source)}
        self.costs: list[Cost] = []

    @property
    def rows(self) -> list[Row]:
        """All of them, from the cheapest by multiply-adds."""
        return list(self._rows.values())

    @property
    def conditions(self) -> dict[str, Conditions]:
        """By quantity, what the costs that were measured must be quoted with."""
        found = {cost.quantity: cost.conditions(self._device) for cost in self.costs}
        return {quantity: said for quantity, said in found.items() if said}

    def price(self, cost: Cost, rows: Sequence[Row] | None = None) -> None:
        """Get a cost of `rows`, of all rows by default, where it is not known yet."""
        new = [row for row in (self.rows if rows is None else rows) if cost.of(row) is None]
        if not new:
            return
        values = cost.values(self._source, [row.submodel for row in new], self._device)
        for done, (row, value) in enumerate(zip(new, values, strict=True), 1):
            priced = replace(row, costs={**row.costs, cost.name: value})
            self._rows[row.submodel] = priced
            self._report(cost, done, len(new), priced)
        self.costs.append(cost)

    def choose(self, budget: Budget) -> Row:
        """Pick the best row within a budget; errors as `choose`.

        Each cost is got only for rows that the bounds before it leave.
        """
        for bound in budget.bounds:
            self.price(bound.cost, budget.within(self.rows))
        return choose(self.rows, budget, self._source.task)


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
    source: Source,
    cost: Cost,
    budget: Budget | None = None,
    device: str = "auto",
    report: Report = _silent,
) -> Frontier:
    """Mark the frontier of a source's rows by `cost`, and choose within the budget.

    Raises:
        RequestError: the rows have no scores, or none is within the budget.
    """
    priced = PricedRows(source, device, report)
    chosen = None if budget is None else priced.choose(budget).submodel
    priced.price(cost)
    rows = priced.rows
    return Frontier(
        path=source.path,
        split=SELECTION_SPLIT,
        rows=rows,
        pareto=pareto([(_score(source.task, row), cost.value(row)) for row in rows]),
        cost=cost,
        metric=source.task.metric,
        higher_is_better=source.task.higher_is_better,
        chosen=next((row for row in rows if row.submodel == chosen), None),
        measured_costs=priced.costs,
        conditions=priced.conditions,
    )


def select(
    source: Source, budget: Budget, device: str = "auto", report: Report = _silent
) -> Choice:
    """Pick the best row of a source within a budget.

    Raises:
        RequestError: the rows have no scores, or none is within the budget.
    """
    priced = PricedRows(source, device, report)
    return Choice(priced.choose(budget), priced.conditions)


def choose(rows: Sequence[Row], budget: Budget, task: Task) -> Row:
    """Pick the row with the best validation score of those within all bounds.

    Of equal scores the one that spends less is taken, as `Budget.spending` orders them.

    Raises:
        RequestError: no row is within the budget.
    """

    def spending(row: Row) -> tuple[float, ...]:
        return (-_score(task, row), *budget.spending(row))

    return min(budget.within(rows), key=spending)


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Mark the points (score, cost) that no other beats on both (Pareto optimal).

    A point is off the frontier if another scores at least as well for at most its cost
    and is strictly better on one of the two.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][1], -points[i][0]))
    marks = [False] * len(points)
    best = (float("-inf"), float("-inf"))
    for i in order:
        score, cost = points[i]
        if score > best[0] or (score, cost) == best:
            marks[i] = True
            best = (score, cost)
    return marks


def _score(task: Task, row: Row) -> float:
    """A row's validation score with higher meaning better, whatever the metric."""
    value = row.metrics[SELECTION_SPLIT][task.metric]
    return value if task.higher_is_better else -value
