"""The interface of a task: which states are scored, the loss, and the metrics."""

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
    """Loss and metrics, as pure functions of logits and targets.

    Attributes:
        num_outputs: number of classes or tokens, the size K of the logits' last dimension.
        label_smoothing: fraction of the target that is spread evenly over all classes.
        metric: name of the metric that scores sub-models.
        higher_is_better: whether a higher value of that metric is better.
    """

    num_outputs: int
    label_smoothing: float = 0.0

    metric: ClassVar[str]
    higher_is_better: ClassVar[bool]

    @abstractmethod
    def scored(self, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Select the states that are scored.

        Args:
            states: a sub-model's states on a batch, before its tail.
            targets: the batch's targets.

        Returns:
            States [N, C] that the tail turns into logits, and their targets [N].
        """

    def loss(
        self, logits: Tensor, targets: Tensor, teacher: Tensor | None = None, share: float = 1.0
    ) -> Tensor:
        """Compute the mean cross-entropy of logits [N, K] against targets [N].

        Args:
            teacher: logits [N, K] whose softmax is a second target (arXiv 1503.02531).
            share: weight of the teacher's loss; the labels' loss has weight 1 - share.
        """
        distilled = None if teacher is None else F.cross_entropy(logits, teacher.softmax(1))
        if distilled is not None and share == 1:
            return distilled
        labelled = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        return labelled if distilled is None else share * distilled + (1 - share) * labelled

    @abstractmethod
    def tally(self, logits: Tensor, targets: Tensor) -> Any:
        """Summarise one chunk of scored logits [N, K] and targets [N] for `metrics`."""

    @abstractmethod
    def metrics(self, tallies: list[Any], num_bytes: int) -> Mapping[str, float]:
        """Compute metrics, including `loss`, from all tallies of a part.

        Args:
            num_bytes: UTF-8 bytes of the scored text; 0 if the targets are not a text.
        """


def summed_loss(logits: Tensor, targets: Tensor) -> float:
    """Sum the cross-entropies of logits [N, K] against targets [N].

    The sum is in float64, in which float32 losses add up without rounding, so that it does not
    depend on the batch size.
    """
    losses = F.cross_entropy(logits, targets, reduction="none")
    return float(losses.cpu().double().sum())  # not every accelerator has float64
