"""Classification: one label for a sample, accuracy as its score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sortednet_cli.errors import RequestError

Batch = tuple[Tensor, Tensor]
"""Images [B, C, H, W], normalised, and labels [B]."""


@dataclass(frozen=True)
class Classification:
    """Forward, loss and metrics of a classifier.

    Args:
        num_classes: the width that the logits must have.
        label_smoothing: share of the target spread evenly over all classes.
    """

    num_classes: int
    label_smoothing: float = 0.0

    metric = "accuracy"
    higher_is_better = True

    def logits(self, module: nn.Module, images: Tensor) -> Tensor:
        """[B, num_classes]; RequestError if the model gives another shape."""
        logits = cast(Tensor, module(images))
        if logits.shape != (len(images), self.num_classes):
            raise RequestError(
                f"the model gives outputs of shape {list(logits.shape)} for {len(images)} images"
                f" of {self.num_classes} classes; check num_classes"
            )
        return logits

    def loss(self, logits: Tensor, labels: Tensor, teacher: Tensor | None = None) -> Tensor:
        """Mean cross-entropy against the labels, or against a teacher's logits."""
        if teacher is not None:
            return F.cross_entropy(logits, teacher.softmax(1))
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    @torch.no_grad()
    def evaluate(self, module: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """Accuracy and mean loss over `batches`, with the module in eval mode."""
        module.eval()
        correct, total, loss = 0, 0, 0.0
        for images, labels in batches:
            logits = self.logits(module, images).float()
            correct += int((logits.argmax(1) == labels).sum())
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            total += len(labels)
        return {"accuracy": correct / total, "loss": loss / total}
