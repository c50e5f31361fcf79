"""Language modelling: a token for each scored position, perplexity as its score."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from sortednet_cli.tasks.base import IGNORED, Task, summed_loss

DecodingStats = tuple[float, int, int]
"""Summed loss in nats, right predictions, and scored tokens."""


@dataclass(frozen=True)
class LanguageModelling(Task):
    """Causal and masked: targets say which positions are scored and with which token."""

    metric = "perplexity"
    higher_is_better = False

    def scored(self, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        flat = targets.flatten()
        if bool((flat != IGNORED).all()):
            return states.flatten(0, 1), flat
        chosen = (flat != IGNORED).nonzero().squeeze(1)
        return states.flatten(0, 1).index_select(0, chosen), flat[chosen]

    def tally(self, logits: Tensor, targets: Tensor) -> DecodingStats:
        loss = summed_loss(logits, targets)
        return loss, int((logits.argmax(1) == targets).sum()), len(targets)

    def metrics(self, tallies: list[DecodingStats], num_bytes: int) -> dict[str, float]:
        """Loss in nats a token, perplexity, accuracy of the next (or hidden) token.

        Where the scored tokens spell a text, also bits per byte of it, which does not depend
        on the tokenizer.
        """
        nats, right, total = (sum(values) for values in zip(*tallies, strict=True))
        loss = nats / total
        found = {
            "perplexity": math.exp(loss) if loss < 700 else math.inf,
            "loss": loss,
            "accuracy": right / total,
        }
        if num_bytes:
            found["bits_per_byte"] = nats / math.log(2) / num_bytes
        return found
