"""What each task is scored by. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sortednet_cli.errors import RequestError


@dataclass(frozen=True)
class Measure:
    """The metric that sub-models of a task are compared by.

    Attributes:
        metric: its name in tables.
        higher_is_better: whether a higher value is the better score.
        least: the lowest value that it can have.
        most: the highest one.
    """

    metric: str
    higher_is_better: bool
    least: float
    most: float = math.inf

    def check_bound(self, bound: float) -> None:
        """RequestError if `--min-score` is a value that this metric cannot have."""
        if math.isfinite(bound) and self.least <= bound <= self.most:
            return
        values = f"a number from {self.least:g}"
        if self.most < math.inf:
            values += f" to {self.most:g}"
        better = "higher" if self.higher_is_better else "lower"
        raise RequestError(
            f"--min-score {bound:g}: {self.metric} is {values}, where {better} is better"
        )

    def reaches(self, value: float, bound: float) -> bool:
        """Whether a score is as good as a bound, or better; NaN never is."""
        return value >= bound if self.higher_is_better else value <= bound


ACCURACY = Measure("accuracy", higher_is_better=True, least=0, most=1)
PERPLEXITY = Measure("perplexity", higher_is_better=False, least=1)


def measure_of(task: str) -> Measure:
    """The measure of a task that a spec names."""
    return ACCURACY if task == "classification" else PERPLEXITY


def measure_named(metric: str) -> Measure:
    """The measure with a metric's name."""
    return {measure.metric: measure for measure in (ACCURACY, PERPLEXITY)}[metric]
