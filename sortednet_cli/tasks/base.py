"""What a task is to the engine: which states are scored, the loss, and the metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

IGNORED = -100
"""The target of a position that is not scored."""


@dataclass(frozen=True)
class Task(ABC):
    """Pure functions of logits and targets; knows no sub-models.

    Args:
        num_outputs: classes or tokens to choose from, the width of the logits.
        label_smoothing: share of the target spread evenly over all classes.
    """

    num_outputs: int
    label_smoothing: float = 0.0

    metric: ClassVar[str]
    higher_is_better: ClassVar[bool]

    @abstractmethod
    def scored(self, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Pick what is scored.

        Args:
            states: what a pass gives for a sub-model on a batch.
            targets: the batch's targets.

        Returns:
            States [N, C] that the tail makes logits of, and their targets [N].
        """

    def loss(
        self, logits: Tensor, targets: Tensor, teacher: Tensor | None = None, share: float = 1.0
    ) -> Tensor:
        """Mean cross-entropy of logits [N, K] against targets [N].

        Args:
            teacher: logits [N, K] whose softmax is a second target (arXiv 1503.02531).
            share: the teacher's part of the loss; the labels have the rest.
        """
        taught = None if teacher is None else F.cross_entropy(logits, teacher.softmax(1))
        if taught is not None and share == 1:
            return taught
        labelled = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        return labelled if taught is None else share * taught + (1 - share) * labelled

    @abstractmethod
    def tally(self, logits: Tensor, targets: Tensor) -> Any:
        """Count one chunk of scored logits [N, K] and targets [N]; tallies can be added."""

    @abstractmethod
    def metrics(self, tallies: list[Any], num_bytes: int) -> Mapping[str, float]:
        """Make metrics, `loss` among them, of all tallies of a part."""


def summed_loss(logits: Tensor, targets: Tensor) -> float:
    """Cross-entropy of logits [N, K] against targets [N], summed.

    In float64, where float32 losses add up without rounding: the same whatever the batches.
    """
    losses = F.cross_entropy(logits, targets, reduction="none")
    return float(losses.cpu().double().sum())  # not every accelerator has float64
