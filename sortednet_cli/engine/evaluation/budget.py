"""Budgets: upper bounds on costs, and the rows that are within all of them. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sortednet_cli.engine.evaluation.costs import Cost, every_cost
from sortednet_cli.engine.evaluation.costs.latency_ms import LatencyMs
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.errors import RequestError, listed, suggestion
from sortednet_cli.storage.sources import StoredSource, require_scores


@dataclass(frozen=True)
class Bound:
    """An upper bound on a cost."""

    cost: Cost
    limit: float

    def __str__(self) -> str:
        return f"{self.cost.name} <= {self.cost.show(self.limit)}"

    def allows(self, row: Row) -> bool:
        """Whether a row is within the bound, or its cost is not known yet."""
        value = self.cost.of(row)
        return value is None or value <= self.limit

    def known(self, rows: Sequence[Row]) -> list[float]:
        """Return the costs of the rows, without those that are not known yet."""
        return [value for row in rows if (value := self.cost.of(row)) is not None]


@dataclass(frozen=True)
class Budget:
    """One or more bounds that all apply.

    Attributes:
        bounds: the bounds, ordered by the effort that their costs take, then by name.
    """

    bounds: tuple[Bound, ...]

    @classmethod
    def of(cls, *bounds: Bound) -> Budget:
        """Make a budget with the bounds in order, which decides between equal scores."""
        return cls(tuple(sorted(bounds, key=lambda bound: (bound.cost.effort, bound.cost.name))))

    def __str__(self) -> str:
        return _joined(self.bounds)

    def within(self, rows: Sequence[Row]) -> list[Row]:
        """Select the rows that no bound excludes, as far as their costs are known.

        Raises:
            RequestError: no row is left. The message has the least value of each cost, and the
                bound that excludes all rows.
        """
        fitting = [row for row in rows if all(bound.allows(row) for bound in self.bounds)]
        if not fitting:
            raise RequestError(self._refusal(rows))
        return fitting

    def spending(self, row: Row) -> tuple[float, ...]:
        """Return the costs that decide between equal scores, in order; the lower one wins.

        They are the costs of the budget in the order of its bounds, then multiply-adds and
        parameters.
        """
        bounded = (bound.cost.of(row) for bound in self.bounds)
        return (*(value for value in bounded if value is not None), row.macs, row.params)

    def _refusal(self, rows: Sequence[Row]) -> str:
        """Name the bounds that exclude all rows alone, or else the first that excludes the rest."""
        alone = [b for b in self.bounds if not any(b.allows(row) for row in rows)]
        if alone:
            least = ", ".join(_least(bound, rows, named=len(alone) > 1) for bound in alone)
            return f"no sub-model fits {' or '.join(map(str, alone))}; the smallest has {least}"
        remaining = rows
        for number, bound in enumerate(self.bounds):
            allowed = [row for row in remaining if bound.allows(row)]
            if not allowed:
                return (
                    f"no sub-model fits {self} together; of the {len(remaining)} within"
                    f" {_joined(self.bounds[:number])} the smallest has {_least(bound, remaining)}"
                )
            remaining = allowed
        raise AssertionError("a row is within all bounds")


def read_budget(
    limits: Mapping[str, str | float], latency: LatencyMs | None = None
) -> Budget | None:
    """Make a budget from upper bounds by the name of the cost; None if there are none.

    A limit is a number, or text as the cost's option takes it.

    Args:
        latency: where bounds on latency take values from; None for torch.

    Raises:
        RequestError: there is no such cost, or a text cannot be parsed; the message names the
            option.
    """
    bounds = []
    costs = {cost.name: cost for cost in every_cost()} if limits else {}
    if latency is not None:
        costs[latency.name] = latency
    for name, limit in limits.items():
        if name not in costs:
            hint = suggestion(name, costs)
            raise RequestError(f"no cost {name!r}{hint}: the costs are {listed(costs)}")
        cost = costs[name]
        try:
            bounds.append(Bound(cost, cost.read(limit) if isinstance(limit, str) else limit))
        except RequestError as error:
            raise RequestError(f"{cost.flag}: {error}") from error
    return Budget.of(*bounds) if bounds else None


def budget_costs(budget: Budget | None) -> list[Cost]:
    """List the costs that a budget bounds."""
    return [] if budget is None else [bound.cost for bound in budget.bounds]


def check_selection(
    stored: StoredSource, budget: Budget | None, latency: LatencyMs | None = None
) -> None:
    """Check the stored table before a sub-model is chosen from it.

    Args:
        latency: where latencies come from, if the choice takes any.

    Raises:
        RequestError: no sub-model is scored, latencies cannot be got, or no sub-model is within
            the bounds on costs that are known.
    """
    require_scores(stored.path, stored.rows)
    if latency is not None:
        latency.check(stored)
    if budget is not None:
        budget.within([Row.read(row) for row in stored.rows])


def _joined(bounds: Sequence[Bound]) -> str:
    return " and ".join(map(str, bounds))


def _least(bound: Bound, rows: Sequence[Row], *, named: bool = True) -> str:
    """Write the least value among the rows whose cost is known."""
    value = bound.cost.show(min(bound.known(rows)))
    return f"{bound.cost.name} {value}" if named else value
