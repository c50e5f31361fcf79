"""One row for each sub-model: what it costs and scores. The JSON of a sub-model is here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sortednet_cli.space import Cost, SubModel, frontier
from sortednet_cli.storage.manifest import StoredRow

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Row:
    """A sub-model with its costs and, for each part of the data, its metrics."""

    submodel: SubModel
    params: int
    macs: int
    metrics: Mapping[str, Metrics]
    latency_ms: float | None = None

    def cost(self, cost: Cost) -> float:
        value = getattr(self, cost)
        if value is None:
            raise ValueError("latency has not been measured")
        return cast(float, value)

    def record(self, split: str, pareto: bool | None = None) -> dict[str, Any]:
        """The JSON of one sub-model, the same in every command."""
        return {
            "name": self.submodel.name,
            "axes": self.submodel.axes,
            "params": self.params,
            "macs": self.macs,
            "flops": 2 * self.macs,
            "metrics": _finite(self.metrics.get(split, {})),
            "split": split,
            "latency_ms": self.latency_ms,
            "pareto": pareto,
        }

    def stored(self) -> dict[str, Any]:
        """What a run's table and an artifact keep of this row."""
        return {
            "axes": self.submodel.axes,
            "params": self.params,
            "macs": self.macs,
            "metrics": {split: dict(values) for split, values in self.metrics.items()},
        }

    @classmethod
    def read(cls, stored: StoredRow) -> Row:
        """Read what `stored` wrote."""
        return cls(SubModel.of(stored.axes), stored.params, stored.macs, stored.metrics)


def _finite(metrics: Metrics) -> dict[str, float | None]:
    """JSON has no infinity: a loss that is none is null."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def score(row: Row, split: str, metric: str, higher_is_better: bool) -> float:
    """A row's score with higher meaning better, whatever the metric."""
    value = row.metrics[split][metric]
    return value if higher_is_better else -value


def mark_frontier(
    rows: Sequence[Row], split: str, metric: str, higher_is_better: bool, cost: Cost
) -> list[bool]:
    """Mark the rows that no other beats on both score and cost."""
    points = [(score(row, split, metric, higher_is_better), row.cost(cost)) for row in rows]
    return frontier(points)
