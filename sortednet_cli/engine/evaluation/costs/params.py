"""Parameters."""

from __future__ import annotations

from sortednet_cli.engine.evaluation.costs.base import CountCost
from sortednet_cli.engine.sources.table import Row


class Params(CountCost):
    """Trained numbers of the sub-model, tied ones once."""

    name = "params"
    units = "parameters"
    label = "parameters"
    help = "Budget in parameters: 50k, 1.5M."

    def of(self, row: Row) -> float:
        return row.params
