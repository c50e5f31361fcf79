"""Classification: one label for each sample, scored by accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sortednet_cli.spec.measures import ACCURACY
from sortednet_cli.tasks.base import Targets, Task, as_counts, losses, summed

Tally = tuple[Tensor, Tensor, Tensor]
"""Predicted classes, true classes and losses of one chunk, [N] each."""

_NUM_COUNTS = 3
"""How many counts every classification has."""


@dataclass(frozen=True)
class Classification(Task):
    """Classification of images; the states are one of each sample."""

    metric = ACCURACY.metric
    higher_is_better = ACCURACY.higher_is_better

    def scored(self, states: Tensor, targets: Targets) -> Tensor:
        return states

    def tally(self, logits: Tensor, targets: Tensor) -> Tally:
        return logits.argmax(1), targets, losses(logits, targets)

    def count(self, tally: Tally) -> Tensor:
        """Losses, samples and correct predictions."""
        predicted, true, own = tally
        return as_counts(summed(own), len(own), int((predicted == true).sum()))

    def metrics(self, counts: Tensor, num_bytes: int) -> dict[str, float]:
        """Compute accuracy and mean loss."""
        loss, total, correct = counts.tolist()
        return {"accuracy": correct / total, "loss": loss / total}


@dataclass(frozen=True)
class TextClassification(Classification):
    """Classification of texts, with two more metrics."""

    def count(self, tally: Tally) -> Tensor:
        """What `Classification` counts; then by class the labels, predictions and both alike."""
        predicted, true, _ = tally
        by_class = (true, predicted, true[true == predicted])
        counted = [torch.bincount(each, minlength=self.num_outputs) for each in by_class]
        return torch.cat([super().count(tally), *(each.double() for each in counted)])

    def metrics(self, counts: Tensor, num_bytes: int) -> dict[str, float]:
        """Compute accuracy, mean loss, F1 and Matthews correlation.

        With two classes, F1 is that of class 1; with more, it is the mean over the classes that
        occur among labels or predictions. The correlation is that of K classes (Gorodkin, 2004);
        it is 0 if all labels, or all predictions, are the same class.
        """
        true, predicted, alike = counts[_NUM_COUNTS:].view(3, self.num_outputs)
        f1 = 2 * alike / (true + predicted)  # NaN for a class that does not occur
        found = f1[1] if self.num_outputs == 2 else f1.nanmean()
        total = true.sum()
        spread = (total**2 - true.square().sum()) * (total**2 - predicted.square().sum())
        covariance = alike.sum() * total - true.dot(predicted)
        return {
            **super().metrics(counts[:_NUM_COUNTS], num_bytes),
            "f1": float(found.nan_to_num()),
            "matthews": float(covariance / spread.sqrt()) if spread else 0.0,
        }
