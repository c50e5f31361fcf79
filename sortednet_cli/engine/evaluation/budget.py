"""Budgets: bounds on what a sub-model costs, and which rows are within all of them. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sortednet_cli.engine.evaluation.costs import Cost, every_cost
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.errors import RequestError, listed
from sortednet_cli.storage.sources import StoredSource, require_scores


@dataclass(frozen=True)
class Bound:
    """The most of a cost that is allowed."""

    cost: Cost
    limit: float

    def __str__(self) -> str:
        return f"{self.cost.name} <= {self.cost.show(self.limit)}"

    def allows(self, row: Row) -> bool:
        """Whether a row is within the bound, as far as its cost is known."""
        value = self.cost.of(row)
        return value is None or value <= self.limit

    def known(self, rows: Sequence[Row]) -> list[float]:
        """The values of the rows whose cost is known."""
        return [value for row in rows if (value := self.cost.of(row)) is not None]


@dataclass(frozen=True)
class Budget:
    """Bounds that must hold together.

    Attributes:
        bounds: at least one. Those whose costs take the least effort come first, then by name.
    """

    bounds: tuple[Bound, ...]

    @classmethod
    def of(cls, *bounds: Bound) -> Budget:
        """Put bounds into their order, which decides between equal scores."""
        return cls(tuple(sorted(bounds, key=lambda bound: (bound.cost.effort, bound.cost.name))))

    def __str__(self) -> str:
        return _joined(self.bounds)

    def within(self, rows: Sequence[Row]) -> list[Row]:
        """Select the rows that no bound rules out, as far as their costs are known.

        Raises:
            RequestError: there is none. The message says the least value of each cost, and what
                rules everything out.
        """
        fitting = [row for row in rows if all(bound.allows(row) for bound in self.bounds)]
        if not fitting:
            raise RequestError(f"no sub-model fits {self}; {self._reason(rows)}")
        return fitting

    def spending(self, row: Row) -> tuple[float, ...]:
        """What the better one of two equal scores has less of.

        The costs of the budget count in the order of its bounds, then multiply-adds, then
        parameters.
        """
        bounded = (bound.cost.of(row) for bound in self.bounds)
        return (*(value for value in bounded if value is not None), row.macs, row.params)

    def _reason(self, rows: Sequence[Row]) -> str:
        if len(self.bounds) == 1:
            (bound,) = self.bounds
            return f"the smallest has {bound.cost.show(min(bound.known(rows)))}"
        least = ", ".join(_least(bound, rows) for bound in self.bounds)
        return f"the least there is: {least}; {self._ruling(rows)}"

    def _ruling(self, rows: Sequence[Row]) -> str:
        """Say which bound no row is within, or which one none is that the others leave."""
        alone = [b for b in self.bounds if not any(b.allows(row) for row in rows)]
        if alone:
            return f"{_joined(alone)} {'rules' if len(alone) == 1 else 'each rule'} out all of them"
        left = rows
        for number, bound in enumerate(self.bounds):
            kept = [row for row in left if bound.allows(row)]
            if not kept:
                least = bound.cost.show(min(bound.known(left)))
                others = _joined(self.bounds[:number])
                return f"{bound} rules out the {len(left)} that fit {others}: the least is {least}"
            left = kept
        raise AssertionError("a row is within all bounds")


def read_budget(limits: Mapping[str, str | float]) -> Budget | None:
    """Make a budget of the most of each cost by its name; None if there are none.

    A limit is a number, or text as the cost's option takes it.

    Raises:
        RequestError: one cannot be read, or there is no such cost; the message names the option.
    """
    bounds = []
    costs = {cost.name: cost for cost in every_cost()} if limits else {}
    for name, limit in limits.items():
        if name not in costs:
            raise RequestError(f"no cost {name!r}: the costs are {listed(costs)}")
        cost = costs[name]
        try:
            bounds.append(Bound(cost, cost.read(limit) if isinstance(limit, str) else limit))
        except RequestError as error:
            raise RequestError(f"{cost.flag}: {error}") from error
    return Budget.of(*bounds) if bounds else None


def check_selection(stored: StoredSource, budget: Budget | None) -> None:
    """Check what the stored table can tell before a sub-model is chosen from it.

    Raises:
        RequestError: nothing is scored, or no row is within the bounds on stored costs.
    """
    require_scores(stored.path, stored.rows)
    if budget is not None:
        budget.within([Row.read(row) for row in stored.rows])


def _joined(bounds: Sequence[Bound]) -> str:
    return " and ".join(map(str, bounds))


def _least(bound: Bound, rows: Sequence[Row]) -> str:
    values = bound.known(rows)
    if not values:
        return f"{bound.cost.name} not known yet"
    some = "" if len(values) == len(rows) else f" of the {len(values)} within the other bounds"
    return f"{bound.cost.name} {bound.cost.show(min(values))}{some}"
