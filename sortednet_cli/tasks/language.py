"""Language modelling: one token for each scored position, scored by perplexity."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from sortednet_cli.tasks.base import IGNORED, Task, summed_loss

Tally = tuple[float, int, int]
"""Summed loss in nats, number of correct predictions and number of scored tokens of one chunk."""


@dataclass(frozen=True)
class LanguageModelling(Task):
    """Causal and masked language modelling; targets other than `IGNORED` are scored."""

    metric = "perplexity"
    higher_is_better = False

    def scored(self, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        flat = targets.flatten()
        if bool((flat != IGNORED).all()):
            return states.flatten(0, 1), flat
        positions = (flat != IGNORED).nonzero().squeeze(1)
        return states.flatten(0, 1).index_select(0, positions), flat[positions]

    def tally(self, logits: Tensor, targets: Tensor) -> Tally:
        loss = summed_loss(logits, targets)
        return loss, int((logits.argmax(1) == targets).sum()), len(targets)

    def metrics(self, tallies: list[Tally], num_bytes: int) -> dict[str, float]:
        """Compute loss in nats per token, perplexity, and accuracy of the next or masked token.

        If the scored tokens are a text, also compute bits per byte, which do not depend on the
        tokenizer.
        """
        nats, correct, total = (sum(values) for values in zip(*tallies, strict=True))
        loss = nats / total
        metrics = {
            "perplexity": math.exp(loss) if loss < 700 else math.inf,
            "loss": loss,
            "accuracy": correct / total,
        }
        if num_bytes:
            metrics["bits_per_byte"] = nats / math.log(2) / num_bytes
        return metrics
