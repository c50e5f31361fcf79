"""Costs that budgets bound and frontiers weigh against scores: one file each. No torch.

To add one, write a subclass of `Cost` and name it in `_OWN`, or in another package as an entry
point of the group `sortednet.costs`. Its flag, its `--cost` and its JSON follow.
"""

from __future__ import annotations

from sortednet_cli.engine.evaluation.costs.base import ComputedCost, Conditions, Cost, Effort
from sortednet_cli.engine.evaluation.costs.latency_ms import LatencyMs
from sortednet_cli.engine.evaluation.costs.macs import Macs
from sortednet_cli.engine.evaluation.costs.memory_mb import MemoryMb
from sortednet_cli.engine.evaluation.costs.params import Params
from sortednet_cli.engine.evaluation.costs.size_mb import SizeMb
from sortednet_cli.errors import RequestError, listed
from sortednet_cli.extensions import COSTS, Registry

__all__ = ["DEFAULT", "ComputedCost", "Conditions", "Cost", "Effort", "every_cost", "find_cost"]

_OWN: tuple[type[Cost], ...] = (Params, Macs, SizeMb, MemoryMb, LatencyMs)

DEFAULT = Macs.name
"""What frontiers weigh against a score unless another cost is named."""

_REGISTRY = Registry[Cost](COSTS, Cost, {made.name: made for made in _OWN})  # type: ignore[type-abstract]


def every_cost() -> list[Cost]:
    """List all costs; RequestError if that of another package cannot be loaded."""
    return _REGISTRY.every()


def find_cost(name: str) -> Cost:
    """The cost of that name, with or without its unit; RequestError if there is none."""
    costs = every_cost()
    for cost in costs:
        if name in (cost.name, cost.quantity):
            return cost
    raise RequestError(f"--cost {name!r}: the costs are {listed(cost.name for cost in costs)}")
