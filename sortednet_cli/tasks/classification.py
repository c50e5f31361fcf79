"""Classification: one label for a sample, accuracy as its score."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sortednet_cli.tasks.base import Task

Tally = tuple[Tensor, Tensor, float]
"""Predicted and true classes [N], and the summed loss."""


def _tally(logits: Tensor, targets: Tensor) -> Tally:
    loss = float(F.cross_entropy(logits, targets, reduction="sum"))
    return logits.argmax(1), targets, loss


@dataclass(frozen=True)
class Classification(Task):
    """Images: the states are the logits themselves."""

    metric = "accuracy"
    higher_is_better = True
    eval_batch = 500

    def scored(self, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return states, targets

    def tally(self, logits: Tensor, targets: Tensor) -> Tally:
        return _tally(logits, targets)

    def metrics(self, tallies: list[Tally], num_bytes: int) -> dict[str, float]:
        """Accuracy and mean loss."""
        correct = sum(int((found == true).sum()) for found, true, _ in tallies)
        total = sum(len(true) for _, true, _ in tallies)
        return {"accuracy": correct / total, "loss": sum(loss for *_, loss in tallies) / total}


@dataclass(frozen=True)
class TextClassification(Classification):
    """Texts: the head sees the state of a sequence's first token."""

    eval_batch = 64

    def scored(self, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return states[:, 0], targets

    def metrics(self, tallies: list[Tally], num_bytes: int) -> dict[str, float]:
        """Accuracy, mean loss, F1 (of class 1, or the mean over more than two), and Matthews."""
        from sklearn.metrics import f1_score, matthews_corrcoef

        found = torch.cat([tally[0] for tally in tallies]).cpu().numpy()
        true = torch.cat([tally[1] for tally in tallies]).cpu().numpy()
        average = "binary" if max(found.max(), true.max()) <= 1 else "macro"
        return {
            **super().metrics(tallies, num_bytes),
            "f1": float(f1_score(true, found, average=average, zero_division=0)),
            "matthews": float(matthews_corrcoef(true, found)),
        }
