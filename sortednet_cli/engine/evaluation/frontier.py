"""The frontier, and the best sub-model for a budget, both chosen on validation data.

Both follow from the stored table. No torch is imported and no model is built, unless a cost is
requested that the table does not hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from sortednet_cli.engine.evaluation.budget import Budget
from sortednet_cli.engine.evaluation.costs import Conditions, Cost
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.errors import RequestError, WorkError
from sortednet_cli.storage.harness import numbers_of, read_harness
from sortednet_cli.storage.sources import StoredSource, require_scores

if TYPE_CHECKING:
    from sortednet_cli.engine.sources.source import Source
    from sortednet_cli.spec.measures import Measure
    from sortednet_cli.tasks import Task

SELECTION_SPLIT = "validation"

CostProgress = Callable[[Cost, int, int, Row], None]
"""Reports progress of a cost: takes the cost, values done, all values, and the last row."""


def _no_progress(cost: Cost, done: int, total: int, row: Row) -> None:
    """Ignore progress."""


@dataclass(frozen=True, repr=False)
class Frontier:
    """All rows of a source with the frontier marked, and the choice for a budget.

    Attributes:
        path: the source's folder.
        split: the part of the data whose scores count.
        rows: all rows, from the cheapest by multiply-adds.
        pareto: for each row, whether it is on the frontier. A row without a value of the cost, as
            outside a budget, is not.
        cost: the cost that is weighed against the score.
        metric: name of the metric that scores sub-models.
        higher_is_better: whether a higher value of the metric is better.
        chosen: the best row within the budget; None without a budget.
        measured_costs: the costs measured for the rows, besides those that the table stores.
        conditions: by quantity, the conditions under which costs were measured.
        missed: how `chosen`, or without a budget the best row, misses the least score that was
            asked for; None if it does not.
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
    missed: str | None = None

    def __repr__(self) -> str:
        return (
            f"Frontier({str(self.path)!r}: {sum(self.pareto)} of {len(self.rows)} sub-models on the"
            f" frontier of {self.split} {self.metric} against {self.cost.name},"
            f" chosen {self.chosen and self.chosen.submodel})"
        )

    def better_than(self, row: Row) -> Row | None:
        """The row of the frontier that scores at least as well as another for less of the cost."""
        most, marked = _known(self.cost, row), zip(self.rows, self.pareto, strict=True)
        cheaper = [other for other, mark in marked if mark and self.cost.value(other) < most]
        ahead = [other for other in cheaper if score_of(self, other) >= score_of(self, row)]
        return max(ahead, key=partial(score_of, self), default=None)


@dataclass(frozen=True)
class Choice:
    """The best row within a budget; `conditions` as in `Frontier`."""

    row: Row
    conditions: Mapping[str, Conditions]


class CostTable:
    """The rows of a source, to which costs are added when they are needed.

    Args:
        opened: opens the source; called once a cost is requested that is not stored.
        device: device on which costs are measured, as `--device` takes it.
        measured: rows with costs that are not measured again.

    Attributes:
        costs: the costs that were added.
    """

    def __init__(
        self,
        stored: StoredSource,
        opened: Callable[[], Source],
        device: str = "auto",
        progress: CostProgress = _no_progress,
        measured: Sequence[Row] = (),
    ) -> None:
        self._measure = stored.measure
        self._opened = cache(opened)
        self._device = device
        self._progress = progress
        self._rows = {row.submodel: row for row in (*stored_rows(stored), *measured)}
        self.costs: list[Cost] = []

    @property
    def rows(self) -> list[Row]:
        """All rows, from the cheapest by multiply-adds."""
        return list(self._rows.values())

    @property
    def conditions(self) -> dict[str, Conditions]:
        """By quantity, the conditions under which costs were measured."""
        conditions = {cost.quantity: cost.conditions(self._device) for cost in self.costs}
        return {quantity: values for quantity, values in conditions.items() if values}

    def add(self, cost: Cost, rows: Sequence[Row] | None = None) -> None:
        """Add a cost to `rows`, by default to all, unless it is known.

        Raises:
            WorkError: a cost is not a finite number.
        """
        unknown = [row for row in (self.rows if rows is None else rows) if not cost.is_in(row)]
        if not unknown:
            return
        values = cost.get(unknown, self._opened, self._device)
        for done, (row, value) in enumerate(zip(unknown, values, strict=True), 1):
            if not math.isfinite(value):
                raise WorkError(f"the cost {cost.name} of {row.submodel} is {value}: no number")
            extended = replace(row, costs={**row.costs, cost.name: value})
            self._rows[row.submodel] = extended
            if cost.of(row) is None:  # not where a file has all values
                self._progress(cost, done, len(unknown), extended)
        self.costs.append(cost)

    def choose(self, budget: Budget) -> Row:
        """Choose the best row within a budget; raises the errors of the function `choose`.

        Each cost is added only to rows that are within the bounds before it.
        """
        for bound in budget.bounds:
            self.add(bound.cost, budget.within(self.rows))
        return choose(self.rows, budget, self._measure)


def stored_rows(stored: StoredSource) -> list[Row]:
    """Return the rows that were scored at the end of training, from the cheapest.

    Raises:
        RequestError: there are no rows, or one has no validation score.
    """
    rows, metric = [Row.read(row) for row in stored.rows], stored.measure.metric
    scored = read_harness(stored.path)
    require_scores(stored.path, rows)
    for row in rows:
        scores = row.metrics.get(SELECTION_SPLIT, {})
        if not {metric, "loss"} <= scores.keys():
            raise RequestError(
                f"the table of {stored.path} is damaged: {row.submodel} has no"
                f" {SELECTION_SPLIT} {metric} and loss"
            )
    rows = [replace(row, harness=numbers_of(scored.get(row.submodel.name, {}))) for row in rows]
    return sorted(rows, key=lambda row: (row.macs, row.params))


def make_frontier(
    stored: StoredSource,
    opened: Callable[[], Source],
    cost: Cost,
    budget: Budget | None = None,
    device: str = "auto",
    progress: CostProgress = _no_progress,
) -> Frontier:
    """Mark the frontier of a source's rows by `cost`, and choose within the budget.

    A cost that is not stored is got for rows within the budget alone: the frontier is then theirs.

    Args:
        opened: opens the source, where a cost is to be got.

    Raises:
        RequestError: the rows have no scores, or none is within the budget.
    """
    table, measure = CostTable(stored, opened, device, progress), stored.measure
    chosen = None if budget is None else table.choose(budget).submodel
    table.add(cost, None if budget is None else budget.within(table.rows))
    return replace(
        mark_frontier(stored.path, table.rows, cost, measure),
        chosen=next((row for row in table.rows if row.submodel == chosen), None),
        measured_costs=table.costs,
        conditions=table.conditions,
    )


def mark_frontier(path: Path, rows: Sequence[Row], cost: Cost, measure: Measure | Task) -> Frontier:
    """Mark the frontier of scored rows by a cost that they hold."""
    return Frontier(
        path=path,
        split=SELECTION_SPLIT,
        rows=rows,
        pareto=pareto([(score_of(measure, row), _known(cost, row)) for row in rows]),
        cost=cost,
        metric=measure.metric,
        higher_is_better=measure.higher_is_better,
        chosen=None,
        measured_costs=(),
        conditions={},
    )


def select(
    stored: StoredSource,
    opened: Callable[[], Source],
    budget: Budget,
    device: str = "auto",
    progress: CostProgress = _no_progress,
) -> Choice:
    """Choose the best row of a source within a budget; arguments and errors as `make_frontier`."""
    table = CostTable(stored, opened, device, progress)
    return Choice(table.choose(budget), table.conditions)


def choose(rows: Sequence[Row], budget: Budget, measure: Measure | Task) -> Row:
    """Choose the row with the best validation score among those within all bounds.

    `Budget.spending` decides between equal scores.

    Raises:
        RequestError: no row is within the budget.
    """

    def spending(row: Row) -> tuple[float, ...]:
        return (-score_of(measure, row), *budget.spending(row))

    return min(budget.within(rows), key=spending)


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Mark the Pareto-optimal points (score, cost).

    A point is off the frontier if another one scores at least as well, costs at most as much, and
    is strictly better in one of the two, or if its own cost is infinite.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][1], -points[i][0]))
    marks = [False] * len(points)
    best = (float("-inf"), float("-inf"))
    for i in order:
        score, cost = points[i]
        if cost < math.inf and (score > best[0] or (score, cost) == best):
            marks[i] = True
            best = (score, cost)
    return marks


def score_of(measure: Measure | Task | Frontier, row: Row) -> float:
    """Return a row's validation score, negated if lower values of the metric are better.

    NaN, which compares with nothing, is the worst.
    """
    value = row.metrics[SELECTION_SPLIT][measure.metric]
    if math.isnan(value):
        return -math.inf
    return value if measure.higher_is_better else -value


def _known(cost: Cost, row: Row) -> float:
    """Return a row's cost; infinity if it has no value."""
    value = cost.of(row)
    return math.inf if value is None else value
