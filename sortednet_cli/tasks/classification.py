"""Classification: one label for each sample, scored by accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sortednet_cli.spec.measures import ACCURACY
from sortednet_cli.tasks.base import Targets, Task, losses, summed

Tally = tuple[Tensor, Tensor, Tensor]
"""Predicted classes, true classes and losses of one chunk, [N] each."""


@dataclass(frozen=True)
class Classification(Task):
    """Classification of images; the states are one of each sample."""

    metric = ACCURACY.metric
    higher_is_better = ACCURACY.higher_is_better

    def scored(self, states: Tensor, targets: Targets) -> Tensor:
        return states

    def tally(self, logits: Tensor, targets: Tensor) -> Tally:
        return logits.argmax(1), targets, losses(logits, targets)

    def metrics(self, tallies: list[Tally], num_bytes: int) -> dict[str, float]:
        """Compute accuracy and mean loss."""
        correct = sum(int((predicted == true).sum()) for predicted, true, _ in tallies)
        total = sum(len(true) for _, true, _ in tallies)
        loss = sum(summed(own) for *_, own in tallies)
        return {"accuracy": correct / total, "loss": loss / total}


@dataclass(frozen=True)
class TextClassification(Classification):
    """Classification of texts, with two more metrics."""

    def metrics(self, tallies: list[Tally], num_bytes: int) -> dict[str, float]:
        """Compute accuracy, mean loss, F1 and Matthews correlation.

        With two classes, F1 is that of class 1; with more, it is the mean over the classes that
        occur among labels or predictions. Matthews correlation is 0 if all labels and
        predictions are the same class.
        """
        from sklearn.metrics import f1_score, matthews_corrcoef

        predicted = torch.cat([tally[0] for tally in tallies]).numpy()
        true = torch.cat([tally[1] for tally in tallies]).numpy()
        average = "binary" if self.num_outputs == 2 else "macro"
        one_class = bool((predicted == true[0]).all() and (true == true[0]).all())
        return {
            **super().metrics(tallies, num_bytes),
            "f1": float(f1_score(true, predicted, average=average, zero_division=0)),
            "matthews": 0.0 if one_class else float(matthews_corrcoef(true, predicted)),
        }
