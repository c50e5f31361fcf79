"""Normalisation statistics of a sub-model, measured on training data after training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from sortednet_cli.families import Family, Inputs
from sortednet_cli.nesting.skeleton import statistic_names
from sortednet_cli.space import SubModel


def has_statistics(module: nn.Module) -> bool:
    return bool(statistic_names(module))


@torch.no_grad()
def recalibrate(
    family: Family,
    group: Sequence[SubModel],
    at: Callable[[SubModel], nn.Module],
    batches: Iterable[Inputs],
) -> dict[SubModel, dict[str, Tensor]]:
    """Set running statistics to the mean over `batches`, sub-models of one group together.

    Running averages kept during training mix statistics of older weights. Here each
    normalisation layer starts afresh and averages its batches by their number of samples, while
    everything else (dropout) behaves as in evaluation.

    Args:
        group: sub-models that one pass serves, the deepest first.
        at: gives the module of each; only its own buffers change, and it is left in
            evaluation mode.
        batches: inputs of the training part, without augmentation.

    Returns:
        Copies of the statistics of each sub-model by name.
    """
    modules = {submodel: at(submodel).eval() for submodel in group}
    layers = [
        layer
        for module in modules.values()
        for layer in module.modules()
        if isinstance(layer, _NormBase) and layer.track_running_stats
    ]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
    # While all statistics are fresh, they part no two sub-models that share a block.
    shared = family.shared_pass(group, modules.__getitem__)
    for layer in layers:
        layer.train()
    done = 0
    for inputs in batches:
        count = _num_samples(inputs)
        done += count
        for layer in layers:
            layer.momentum = count / done
        shared.states(inputs)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
    for ran, follower in shared.followers():
        for source, target in zip(ran.buffers(), follower.buffers(), strict=True):
            target.copy_(source)
    return {submodel: _statistics(module) for submodel, module in modules.items()}


def _num_samples(inputs: Inputs) -> int:
    return len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)


def _statistics(module: nn.Module) -> dict[str, Tensor]:
    tensors = dict(module.named_buffers())
    return {name: tensors[name].clone() for name in statistic_names(module)}
