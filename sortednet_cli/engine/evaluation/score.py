"""Scores of sub-models on parts of the data: one pass for all that it serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sortednet_cli.allocator import release
from sortednet_cli.data import Dataset, Part
from sortednet_cli.distributed.processes import SINGLE_PROCESS, Processes
from sortednet_cli.engine.evaluation.batch_sizes import BatchSizes
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.engine.sources.table import Metrics, Row
from sortednet_cli.families import Inputs
from sortednet_cli.machine.device import true_fp32
from sortednet_cli.machine.memory import describe_pass, enough_memory
from sortednet_cli.nesting import NestedNetwork, has_statistics, recalibrate
from sortednet_cli.space import SubModel
from sortednet_cli.tasks import Task
from sortednet_cli.tasks.chunks import chunks

_ELSEWHERE = "take a device with more, or free some of this one's"


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
    """Score sub-models one after another, each as a row with its costs.

    Of several processes each scores its share of the groups; see `gather_rows`.

    A sub-model whose normalisation statistics are not stored (one cut from an artifact)
    has them measured on training data first. Passes run in the memory format that was trained in.
    """
    network = source.network(device, channels_last=source.channels_last)
    sizes = BatchSizes.of(network, source.format)
    release()  # what files and first weights took
    for group in processes.assigned(network.groups(submodels)):
        ensure_statistics(network, group, data, sizes, recalibrate_samples)
        found = score(network, group, data, splits, source.task, sizes)
        for submodel in reversed(group):
            yield source.row(submodel, found[submodel])
        release()  # the next width frees and asks for other sizes


def _go_on() -> None:
    """Called between batches: to leave, raise."""


@true_fp32()
def ensure_statistics(
    network: NestedNetwork,
    group: Sequence[SubModel],
    data: Dataset,
    sizes: BatchSizes,
    num_samples: int,
    between: Callable[[], None] = _go_on,
) -> None:
    """Measure the normalisation statistics of a group where none are stored."""
    new = [submodel for submodel in group if submodel.name not in network.statistics]
    if new and has_statistics(network.at(new[0])):
        with enough_memory(describe_pass(new, min(sizes.measured, num_samples)), _ELSEWHERE):
            batches = calibration_batches(data, sizes, num_samples, network.device, between)
            for submodel, found in recalibrate(network.family, new, network.at, batches).items():
                network.statistics[submodel.name] = found


def calibration_batches(
    data: Dataset,
    sizes: BatchSizes,
    num_samples: int,
    device: torch.device,
    between: Callable[[], None] = _go_on,
) -> Iterator[Inputs]:
    """Training samples without augmentation, the same ones every time.

    No batch has one sample alone: it may have no variance that could be measured.
    """
    total = min(num_samples, len(data.train))
    size = next((size for size in range(sizes.measured, 1, -1) if total % size != 1), 1)
    for inputs, _ in data.train.batches(size, device, limit=num_samples):
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
    """Score a group that one pass serves on the named parts of the data."""
    parts: dict[str, Part] = {
        "train": data.train,
        "validation": data.validation,
        "test": data.test,
    }
    found: dict[SubModel, dict[str, Metrics]] = {submodel: {} for submodel in group}
    for split in splits:
        scores = score_part(network, group, parts[split], task, sizes.scored, between)
        for submodel, metrics in scores.items():
            found[submodel][split] = metrics
    return found


@torch.no_grad()
@true_fp32()
def score_part(
    network: NestedNetwork,
    group: Sequence[SubModel],
    part: Part,
    task: Task,
    batch_size: int,
    between: Callable[[], None] = _go_on,
) -> Mapping[SubModel, Metrics]:
    """Score a group that one pass serves on one part of the data."""
    shared = network.shared_pass(group, training=False)
    tallies: dict[SubModel, list[Any]] = {submodel: [] for submodel in group}

    def add(inputs: Inputs, targets: Tensor) -> None:
        for number, states in enumerate(shared.states(inputs)):
            scored, wanted = task.scored(states, targets)
            for rows in chunks(len(wanted), task.num_outputs):
                logits = shared.logits(number, scored[rows]).float()
                tallies[group[number]].append(task.tally(logits, wanted[rows]))

    with enough_memory(describe_pass(group, min(batch_size, len(part))), _ELSEWHERE):
        for inputs, targets in part.batches(batch_size, network.device):
            between()
            network.run(partial(add, inputs, targets))
    return {submodel: task.metrics(own, part.num_bytes) for submodel, own in tallies.items()}
