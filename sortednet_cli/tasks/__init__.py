"""Tasks: which outputs of a batch are scored, their loss and their metrics."""

from __future__ import annotations

from sortednet_cli.tasks.base import Targets, Task
from sortednet_cli.tasks.classification import Classification, TextClassification
from sortednet_cli.tasks.language import LanguageModelling

__all__ = [
    "Classification",
    "LanguageModelling",
    "Targets",
    "Task",
    "TextClassification",
    "make_task",
]


def make_task(name: str, kind: str, num_outputs: int, label_smoothing: float = 0.0) -> Task:
    """Make a task.

    Args:
        name: the value of `task` in a spec.
        kind: kind of the inputs, `image` or `text`.
        num_outputs: number of classes or tokens.
        label_smoothing: fraction of the target that is spread evenly over all classes.
    """
    if name != "classification":
        return LanguageModelling(num_outputs, label_smoothing)
    make = TextClassification if kind == "text" else Classification
    return make(num_outputs, label_smoothing)
