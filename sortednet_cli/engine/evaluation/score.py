"""Scoring of sub-models on parts of the data, several of them by one shared pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from sortednet_cli.allocator import release
from sortednet_cli.data import Dataset, Part
from sortednet_cli.distributed.processes import SINGLE_PROCESS, Processes
from sortednet_cli.engine.evaluation.batch_sizes import BatchSizes
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.engine.sources.table import Metrics, Row
from sortednet_cli.families import Inputs, SharedPass
from sortednet_cli.machine.device import true_fp32
from sortednet_cli.machine.memory import MORE_MEMORY, describe_pass, enough_memory
from sortednet_cli.machine.transfer import fetch
from sortednet_cli.nesting import NestedNetwork, has_statistics, recalibrate
from sortednet_cli.space import SubModel
from sortednet_cli.tasks import Targets, Task
from sortednet_cli.tasks.chunks import chunks

_CALIBRATION_SEED = 0
"""Draws the samples that statistics are measured on, and their augmentation."""


def score_source(
    source: Source,
    submodels: Sequence[SubModel],
    data: Dataset,
    *,
    splits: Sequence[str] = ("test",),
    device: torch.device,
    recalibrate_samples: int = 2048,
    processes: Processes = SINGLE_PROCESS,
) -> Iterator[Row]:
    """Score sub-models, and yield a row with costs and scores for each.

    Each process of a job scores its share of the groups; `gather_rows` collects them. If
    normalisation statistics are not stored, as in an artifact that is cut again, they are measured
    on training data first. Passes run in the memory format of the training.

    Args:
        splits: the parts of the data to score on.
        recalibrate_samples: number of training samples to measure statistics on.

    Raises:
        WorkError: memory ran out.
    """
    network = source.network(device, channels_last=source.channels_last)
    sizes = BatchSizes.of(network, source.format)
    release()  # memory of files and first weights
    for group in processes.assigned(network.groups(submodels)):
        ensure_statistics(network, group, data, sizes, recalibrate_samples)
        metrics = score(network, group, data, splits, source.task, sizes)
        for submodel in reversed(group):
            yield source.row(submodel, metrics[submodel])
        release()  # tensors of the next width have other sizes


def _go_on() -> None:
    """Do nothing between batches; a caller's function may raise here to stop."""


@true_fp32()
def ensure_statistics(
    network: NestedNetwork,
    group: Sequence[SubModel],
    data: Dataset,
    sizes: BatchSizes,
    num_samples: int,
    between: Callable[[], None] = _go_on,
) -> None:
    """Measure the normalisation statistics of the sub-models of a group that have none."""
    new = [submodel for submodel in group if submodel.name not in network.statistics]
    if new and has_statistics(network.at(new[0])):
        with enough_memory(describe_pass(new, min(sizes.measured, num_samples)), MORE_MEMORY):
            batches = calibration_batches(data, sizes, num_samples, network.device, between)
            measured = recalibrate(network.family, new, network.at, batches)
            for submodel, statistics in measured.items():
                network.statistics[submodel.name] = statistics


def calibration_batches(
    data: Dataset,
    sizes: BatchSizes,
    num_samples: int,
    device: torch.device,
    between: Callable[[], None] = _go_on,
) -> Iterator[Inputs]:
    """Yield at least `num_samples` training samples, or all, the same ones every time.

    They are augmented, because the weights fit what training showed them: the black border of a
    random crop alone changes the mean of every channel. All batches are full, because the variance
    of a single sample may be 0.
    """
    total = min(num_samples, len(data.train))
    size = min(sizes.measured, total)
    count = math.ceil(total / size)
    for inputs, _ in data.training_batches(
        0, batch_size=size, seed=_CALIBRATION_SEED, device=device, count=count
    ):
        between()
        yield inputs


def score(
    network: NestedNetwork,
    group: Sequence[SubModel],
    data: Dataset,
    splits: Sequence[str],
    task: Task,
    sizes: BatchSizes,
    between: Callable[[], None] = _go_on,
) -> dict[SubModel, dict[str, Metrics]]:
    """Score a group of sub-models that one pass serves on several parts of the data.

    Returns:
        For each sub-model and part, the metrics by name.
    """
    parts: dict[str, Part] = {
        "train": data.train,
        "validation": data.validation,
        "test": data.test,
    }
    asked = {split: parts[split] for split in splits}
    return score_parts(network, group, asked, task, sizes.scored, between)


@torch.no_grad()
@true_fp32()
def score_parts(
    network: NestedNetwork,
    group: Sequence[SubModel],
    parts: Mapping[str, Part],
    task: Task,
    batch_size: int,
    between: Callable[[], None] = _go_on,
) -> dict[SubModel, dict[str, Metrics]]:
    """Score a group of sub-models that one pass serves on parts of the data, by name.

    What the passes found stays on an accelerator until the last of them has been queued. On a CPU
    it is counted batch by batch: tensors that outlive their batch lie between its activations, and
    what is free between them is too small for a longer batch, so that the heap grows and grows.
    """
    shared = network.shared_pass(group, training=False)
    found: dict[str, list[_Found]] = {}
    for name, part in parts.items():
        found[name] = [_Found() for _ in group]
        with enough_memory(describe_pass(group, min(batch_size, len(part))), MORE_MEMORY):
            _score_part(network, shared, found[name], part, task, batch_size, between)
    waiting = fetch({name: [own.tallies for own in each] for name, each in found.items()})
    return {
        submodel: {
            name: task.metrics(
                sum(map(task.count, waiting[name][number]), found[name][number].counts),
                part.num_bytes,
            )
            for name, part in parts.items()
        }
        for number, submodel in enumerate(group)
    }


@dataclass
class _Found:
    """What the passes found for one sub-model.

    Attributes:
        counts: the sum over the chunks that have been counted; 0 before the first.
        tallies: of the chunks that an accelerator has queued.
    """

    counts: Any = 0
    tallies: list[Any] = field(default_factory=list)


def _score_part(
    network: NestedNetwork,
    shared: SharedPass,
    found: Sequence[_Found],
    part: Part,
    task: Task,
    batch_size: int,
    between: Callable[[], None],
) -> None:
    """Score a part of the data batch by batch, for each sub-model of a pass."""

    def add(inputs: Inputs, targets: Targets) -> None:
        for number, (own, states) in enumerate(zip(found, shared.states(inputs), strict=True)):
            scored = task.scored(states, targets)
            for rows in chunks(len(scored), task.num_outputs):
                logits = shared.logits(number, scored[rows]).float()
                tally = task.tally(logits, targets.values[rows])
                if tally[0].is_cpu:
                    own.counts += task.count(tally)
                else:
                    own.tallies.append(tally)

    for inputs, given in part.batches(batch_size, network.device):
        between()
        network.run(partial(add, inputs, task.targets(given, network.device)))
