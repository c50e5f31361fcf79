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
        """What `Classification` counts, then each pair of a true and a predicted class."""
        predicted, true, _ = tally
        pairs = torch.bincount(true * self.num_outputs + predicted, minlength=self.num_outputs**2)
        return torch.cat([super().count(tally), pairs.double()])

    def metrics(self, counts: Tensor, num_bytes: int) -> dict[str, float]:
        """Compute accuracy, mean loss, F1 and Matthews correlation.

        With two classes, F1 is that of class 1; with more, it is the mean over the classes that
        occur among labels or predictions. Matthews correlation is 0 if all labels and
        predictions are the same class.
        """
        from sklearn.metrics import f1_score, matthews_corrcoef

        pairs = counts[_NUM_COUNTS:].view(self.num_outputs, self.num_outputs)
        true, predicted = (classes.numpy() for classes in pairs.nonzero(as_tuple=True))
        weights = pairs[pairs > 0].numpy()
        average = "binary" if self.num_outputs == 2 else "macro"
        one_class = len(weights) == 1 and true[0] == predicted[0]
        f1 = f1_score(true, predicted, average=average, zero_division=0, sample_weight=weights)
        matthews = 0.0 if one_class else matthews_corrcoef(true, predicted, sample_weight=weights)
        return {
            **super().metrics(counts[:_NUM_COUNTS], num_bytes),
            "f1": float(f1),
            "matthews": float(matthews),
        }
