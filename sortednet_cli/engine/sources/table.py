"""The row of a sub-model, with its costs and scores, and its JSON."""

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
    """A sub-model with its costs and scores.

    Attributes:
        submodel: the sub-model; see `submodel.axes` and `submodel.name`.
        params: number of parameters.
        macs: multiply-adds per image or token.
        metrics: for each part of the data, the metrics by name: `metrics["test"]["accuracy"]`.
        costs: costs that are not stored but were measured for a command, by name.
        harness: for each task of lm-eval that it was scored on, the metrics by lm-eval's names.
    """

    submodel: SubModel
    params: int
    macs: int
    metrics: Mapping[str, Metrics]
    costs: Mapping[str, float] = field(default_factory=dict)
    harness: Mapping[str, Metrics] = field(default_factory=dict)

    def record(self, split: str, pareto: bool | None = None) -> dict[str, Any]:
        """Return the JSON of the sub-model, which is the same in every command.

        Args:
            split: the part of the data whose metrics to show.
            pareto: whether the sub-model is on the frontier; None if that is not known.
        """
        harness = {task: dict(values) for task, values in self.harness.items()}
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
            **({"harness": harness} if harness else {}),
        }

    def stored(self) -> dict[str, Any]:
        """Return the JSON that a run's table and an artifact's manifest store."""
        return {
            "axes": self.submodel.axes,
            "params": self.params,
            "macs": self.macs,
            "metrics": {split: dict(values) for split, values in self.metrics.items()},
        }

    @classmethod
    def read(cls, stored: StoredRow) -> Row:
        """Make a row from the JSON that `stored` returned."""
        return cls(SubModel.of(stored.axes), stored.params, stored.macs, stored.metrics)


def _finite(metrics: Metrics) -> dict[str, float | None]:
    """Replace values that are not finite by None, because JSON has no such numbers."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}
