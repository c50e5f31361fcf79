"""Tasks: which outputs of a batch are scored, their loss and their metrics."""

from __future__ import annotations

from sortednet_cli.tasks.base import Task
from sortednet_cli.tasks.classification import Classification, TextClassification
from sortednet_cli.tasks.language import LanguageModelling

__all__ = ["Classification", "LanguageModelling", "Task", "TextClassification", "make_task"]


def make_task(name: str, kind: str, num_outputs: int, label_smoothing: float = 0.0) -> Task:
    """Make the task that a spec names; `kind` of inputs is `image` or `text`."""
    if name != "classification":
        return LanguageModelling(num_outputs, label_smoothing)
    make = TextClassification if kind == "text" else Classification
    return make(num_outputs, label_smoothing)
