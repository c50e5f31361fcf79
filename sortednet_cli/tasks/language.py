"""Language modelling: one token for each scored position, scored by perplexity."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sortednet_cli.machine.transfer import send
from sortednet_cli.spec.measures import PERPLEXITY
from sortednet_cli.tasks.base import IGNORED, Targets, Task, as_counts, losses, summed

Tally = tuple[Tensor, Tensor]
"""Losses in nats [N] and number of correct predictions of one chunk."""


@dataclass(frozen=True)
class LanguageModelling(Task):
    """Causal and masked language modelling; targets other than `IGNORED` are scored."""

    metric = PERPLEXITY.metric
    higher_is_better = PERPLEXITY.higher_is_better

    def targets(self, given: Tensor, device: torch.device) -> Targets:
        flat = given.flatten()
        rows = (flat != IGNORED).nonzero().squeeze(1)
        if len(rows) == len(flat):
            return Targets(send(flat, device))
        return Targets(send(flat[rows], device), send(rows, device))

    def scored(self, states: Tensor, targets: Targets) -> Tensor:
        flat = states.flatten(0, 1)
        return flat if targets.rows is None else flat.index_select(0, targets.rows)

    def tally(self, logits: Tensor, targets: Tensor) -> Tally:
        return losses(logits, targets), (logits.argmax(1) == targets).sum()

    def count(self, tally: Tally) -> Tensor:
        """Nats, tokens and correct predictions."""
        own, correct = tally
        return as_counts(summed(own), len(own), int(correct))

    def metrics(self, counts: Tensor, num_bytes: int) -> dict[str, float]:
        """Compute loss in nats per token, perplexity, and accuracy of the next or masked token.

        If the scored tokens are a text, also compute bits per byte, which do not depend on the
        tokenizer.
        """
        nats, total, correct = counts.tolist()
        loss = nats / total
        metrics = {
            "perplexity": math.exp(loss) if loss < 700 else math.inf,
            "loss": loss,
            "accuracy": correct / total,
        }
        if num_bytes:
            metrics["bits_per_byte"] = nats / math.log(2) / num_bytes
        return metrics
