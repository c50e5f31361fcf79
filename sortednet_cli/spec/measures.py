"""What each task is scored by. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """The metric that sub-models of a task are compared by.

    Attributes:
        metric: its name in tables.
        higher_is_better: whether a higher value is the better score.
    """

    metric: str
    higher_is_better: bool


ACCURACY = Measure("accuracy", higher_is_better=True)
PERPLEXITY = Measure("perplexity", higher_is_better=False)


def measure_of(task: str) -> Measure:
    """The measure of a task that a spec names."""
    return ACCURACY if task == "classification" else PERPLEXITY
