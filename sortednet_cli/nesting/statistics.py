"""Normalisation statistics of a sub-model, measured on training data after training."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from sortednet_cli.families import Family, Inputs
from sortednet_cli.nesting.skeleton import statistic_names


def has_statistics(module: nn.Module) -> bool:
    return bool(statistic_names(module))


@torch.no_grad()
def recalibrate(module: nn.Module, family: Family, batches: Iterable[Inputs]) -> dict[str, Tensor]:
    """Set a sub-model's running statistics to the mean over `batches`; leave it in eval mode.

    Running averages kept during training mix statistics of older weights. Here each
    normalisation layer starts afresh and averages its batches with equal weight, while
    everything else (dropout) behaves as in evaluation.

    Args:
        module: the sub-model; only its own buffers change.
        batches: inputs of the training part, without augmentation.

    Returns:
        Copies of the statistics by name.
    """
    layers = [m for m in module.modules() if isinstance(m, _NormBase) and m.track_running_stats]
    momenta = [layer.momentum for layer in layers]
    module.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    if layers:
        for inputs in batches:
            family.forward(module, inputs)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
    tensors = dict(module.named_buffers())
    return {name: tensors[name].clone() for name in statistic_names(module)}
