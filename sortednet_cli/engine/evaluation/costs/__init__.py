"""Costs that budgets bound and frontiers weigh against scores: one file each. No torch.

To add one, write a subclass of `Cost` and name it in `COSTS`, or in another package as an entry
point of the group `sortednet.costs`. Its flag, its `--cost` and its JSON follow.
"""

from __future__ import annotations

import re

from sortednet_cli import extensions
from sortednet_cli.engine.evaluation.costs.base import ComputedCost, Conditions, Cost, Effort
from sortednet_cli.errors import RequestError, listed, suggestion
from sortednet_cli.extensions import Registry, warn_once

__all__ = [
    "DEFAULT",
    "ComputedCost",
    "Conditions",
    "Cost",
    "Effort",
    "computed_costs",
    "every_cost",
    "find_cost",
]

COSTS = Registry(
    extensions.COSTS,
    "cost",
    "--cost",
    {
        "params": "sortednet_cli.engine.evaluation.costs.params:Params",
        "macs": "sortednet_cli.engine.evaluation.costs.macs:Macs",
        "size_mb": "sortednet_cli.engine.evaluation.costs.size_mb:SizeMb",
        "memory_mb": "sortednet_cli.engine.evaluation.costs.memory_mb:MemoryMb",
        "latency_ms": "sortednet_cli.engine.evaluation.costs.latency_ms:LatencyMs",
    },
)

DEFAULT = "macs"
"""What frontiers weigh against a score unless another cost is named."""

_LEGAL_NAME = "[a-z][a-z0-9_]*"
"""It becomes a key of JSON and a part of an option."""


def every_cost() -> list[Cost]:
    """Make all costs. One of another package that cannot be made is left out, with a warning."""
    found = []
    for name in COSTS.names():
        try:
            found.append(_make(name))
        except RequestError as error:
            warn_once(f"{error}; this cost is left out")
    return found


def computed_costs() -> list[Cost]:
    """Make the costs that need no forward pass."""
    return [cost for cost in every_cost() if cost.effort <= Effort.COMPUTED]


def find_cost(name: str) -> Cost:
    """The cost of that name, with or without its unit; RequestError if there is none."""
    costs = every_cost()
    for cost in costs:
        if name in (cost.name, cost.quantity):
            return cost
    if name in COSTS.names():
        return _make(name)  # which tells why it cannot be made
    names = [cost.name for cost in costs]
    hint = suggestion(name, [*names, *(cost.quantity for cost in costs)])
    raise RequestError(f"--cost {name!r}{hint}: the costs are {listed(names)}")


def _make(name: str) -> Cost:
    kind: type[Cost] = COSTS.load(name, Cost)
    if not re.fullmatch(_LEGAL_NAME, name):
        raise RequestError(
            f"{COSTS.group}: {name!r} is no name of a cost: take small letters, digits and _"
        )
    with COSTS.making(name):
        return kind()
