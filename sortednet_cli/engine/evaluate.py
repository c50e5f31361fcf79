"""Scores of sub-models on a part of the data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from sortednet_cli.data import Images
from sortednet_cli.engine.source import Source
from sortednet_cli.engine.table import Row
from sortednet_cli.nesting import NestedNetwork, has_statistics, recalibrate
from sortednet_cli.space import SubModel
from sortednet_cli.tasks import Classification

EVAL_BATCH = 500


def evaluate(
    source: Source,
    submodels: Sequence[SubModel],
    images: Images,
    *,
    splits: Sequence[str] = ("test",),
    device: torch.device,
    recalibrate_samples: int = 2048,
) -> Iterator[Row]:
    """Score sub-models one after another, each as a row with its costs.

    A sub-model whose normalisation statistics are not stored (one cut from an artifact)
    has them measured on training data first.
    """
    network = source.network(device)
    for submodel in submodels:
        ensure_statistics(network, submodel, images, recalibrate_samples)
        metrics = metrics_of(network, submodel, images, splits, source.task)
        yield source.row(submodel, metrics)


def ensure_statistics(
    network: NestedNetwork, submodel: SubModel, images: Images, num_samples: int
) -> None:
    """Measure a sub-model's normalisation statistics where none are stored."""
    module = network.at(submodel).eval()
    if has_statistics(module) and submodel.name not in network.statistics:
        batches = calibration_batches(images, num_samples, network.device)
        network.statistics[submodel.name] = recalibrate(module, batches)


def calibration_batches(images: Images, num_samples: int, device: torch.device) -> Iterator[Tensor]:
    """Training images without augmentation, the same ones every time."""
    for batch, _ in images.train.batches(EVAL_BATCH, device, limit=num_samples):
        yield batch


def metrics_of(
    network: NestedNetwork,
    submodel: SubModel,
    images: Images,
    splits: Iterable[str],
    task: Classification,
) -> dict[str, dict[str, float]]:
    """Score one sub-model on the named parts of the data."""
    module = network.at(submodel)
    parts = {"train": images.train, "validation": images.validation, "test": images.test}
    return {
        split: task.evaluate(module, parts[split].batches(EVAL_BATCH, network.device))
        for split in splits
    }
