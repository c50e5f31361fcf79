"""The interface of a task: which states are scored, the loss, and the metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from sortednet_cli.machine.transfer import send
from sortednet_cli.tasks.divergence import Divergence, alpha_divergence, cross_entropy_from

IGNORED = -100
"""The target of a position that is not scored."""


@dataclass(frozen=True)
class Targets:
    """What the scored states of a batch are compared with, on the device of the states.

    Attributes:
        values: classes or tokens, int64 [N].
        rows: where their states lie among all of the batch, int64 [N]; None if all are scored.
    """

    values: Tensor
    rows: Tensor | None = None


@dataclass(frozen=True)
class Task(ABC):
    """Loss and metrics, as pure functions of logits and targets.

    Nothing here waits for the device; `count` takes what has been copied to the host.

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

    def targets(self, given: Tensor, device: torch.device) -> Targets:
        """Send a batch's targets to the device.

        Args:
            given: as the data gives them; where the task looks at them, on the host.
        """
        return Targets(send(given, device))

    @abstractmethod
    def scored(self, states: Tensor, targets: Targets) -> Tensor:
        """Select the states [N, C] that are scored, which the tail turns into logits.

        Args:
            states: a sub-model's states on a batch, before its tail.
        """

    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        teacher: Tensor | None = None,
        share: float = 1.0,
        temperature: float = 1.0,
        divergence: Divergence = "kl",
    ) -> Tensor:
        """Compute the mean cross-entropy of logits [N, K] against targets [N].

        Args:
            teacher: logits [N, K] whose softmax is a second target (arXiv 1503.02531). It may have
                another K: of two models of one tokenizer, either may have spare tokens, and only
                what both have is compared.
            share: weight of the teacher's loss; the labels' loss has weight 1 - share.
            temperature: what divides both logits first. The teacher's loss is multiplied by its
                square, so that gradients keep their size.
            divergence: what the teacher's loss is.
        """
        distilled = None
        if teacher is not None:
            measure = cross_entropy_from if divergence == "kl" else alpha_divergence
            student, teacher = _of_shared_columns(logits, teacher)
            distilled = measure(student / temperature, teacher / temperature) * temperature**2
        if distilled is not None and share == 1:
            return distilled
        labelled = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        return labelled if distilled is None else share * distilled + (1 - share) * labelled

    @abstractmethod
    def tally(self, logits: Tensor, targets: Tensor) -> Any:
        """Summarise one chunk of scored logits [N, K] and targets [N], as a tuple of tensors."""

    @abstractmethod
    def count(self, tally: Any) -> Tensor:
        """Turn a tally that is on the host into counts that add up over chunks, float64 [M]."""

    @abstractmethod
    def metrics(self, counts: Tensor, num_bytes: int) -> Mapping[str, float]:
        """Compute metrics, including `loss`, from the counts of all chunks of a part.

        Args:
            counts: their sum, float64 [M].
            num_bytes: UTF-8 bytes of the scored text; 0 if the targets are not a text.
        """


def _of_shared_columns(logits: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Cut logits [N, K] and [N, L] to the columns that both have."""
    if logits.shape == teacher.shape:
        return logits, teacher
    shared = min(logits.shape[1], teacher.shape[1])
    return logits[:, :shared], teacher[:, :shared]


def losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the cross-entropies [N] of logits [N, K] against targets [N]."""
    return F.cross_entropy(logits, targets, reduction="none")


def summed(losses: Tensor) -> float:
    """Sum losses on the host, as not every accelerator has float64.

    In float64, float32 losses add up without rounding, so that the sum does not depend on the
    batch size.
    """
    return float(losses.double().sum())


def as_counts(*numbers: float) -> Tensor:
    """Numbers as counts, float64 [M]."""
    return torch.tensor(numbers, dtype=torch.float64)
