"""One row for each sub-model: what it costs and scores. The JSON of a sub-model is here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sortednet_cli.space import SubModel
from sortednet_cli.storage.manifest import StoredRow

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Row:
    """A sub-model with its costs and, for each part of the data, its metrics.

    Attributes:
        costs: those that are not stored and that a command asked for, by name.
    """

    submodel: SubModel
    params: int
    macs: int
    metrics: Mapping[str, Metrics]
    costs: Mapping[str, float] = field(default_factory=dict)

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
            "latency_ms": None,
            "pareto": pareto,
            **self.costs,
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
