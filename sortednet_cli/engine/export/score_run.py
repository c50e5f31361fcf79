"""Scoring of a file of a further format, batch by batch in its own runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from sortednet_cli.data import Dataset
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.tasks.chunks import chunks

if TYPE_CHECKING:
    from sortednet_cli.engine.export.formats.base import Run

BATCH_SIZE = 32


@torch.no_grad()
def score_run(source: Source, data: Dataset, run: Run) -> Mapping[str, float]:
    """Compute the metrics of the validation part, from the logits of a file.

    An exported file takes no positions: where a window of tokens holds several documents, it does
    not see where one ends. So the score may differ a little from the one that `eval` measures.

    Args:
        run: computes logits from the inputs of `Family.logits_inputs`.
    """
    task, part, cpu = source.task, data.validation, torch.device("cpu")
    counts: Any = 0
    for inputs, given in part.batches(BATCH_SIZE, cpu):
        targets = task.targets(given, cpu)
        logits = task.scored(run(source.family.logits_inputs(inputs)), targets).float()
        for rows in chunks(len(logits), task.num_outputs):
            counts += task.count(task.tally(logits[rows], targets.values[rows]))
    return task.metrics(counts, part.num_bytes)
