"""Recalibrate normalisation statistics of sub-models on training data, after training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_map

from sortednet_cli.families import Family, Inputs, SharedPass
from sortednet_cli.machine.transfer import fetch
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
    """Set the running statistics of one group of sub-models to their mean over `batches`.

    Running averages from training mix in statistics of older weights. Here each normalisation
    layer starts afresh and averages its batches weighted by their number of samples. All other
    layers (dropout) stay in evaluation mode.

    Args:
        group: sub-models that share one pass, the deepest first.
        at: returns a sub-model's module. Only its buffers change, and it is left in evaluation
            mode.
        batches: inputs of the training part, augmented as in training.

    Returns:
        Copies of the statistics of each sub-model by name, on the host.
    """
    modules = {submodel: at(submodel).train() for submodel in group}
    layers = [
        layer
        for module in modules.values()
        for layer in module.modules()
        if isinstance(layer, _NormBase) and layer.track_running_stats
    ]
    for layer in layers:
        layer.reset_running_stats()
    # Made in training mode, which shares all blocks of the same weights: all statistics are fresh.
    shared = family.shared_pass(group, modules.__getitem__)
    for module in modules.values():
        module.eval()
    _average(layers, shared, batches)
    for leader, follower in shared.followers():
        for source, target in zip(leader.buffers(), follower.buffers(), strict=True):
            target.copy_(source)
    found = fetch({submodel: _statistics(module) for submodel, module in modules.items()})
    copies: dict[SubModel, dict[str, Tensor]] = tree_map(torch.clone, found)
    return copies


def _average(layers: Sequence[_NormBase], shared: SharedPass, batches: Iterable[Inputs]) -> None:
    """Average the statistics of batches, weighted by their number of samples."""
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.train()
    num_seen = 0
    for inputs in batches:
        count = _num_samples(inputs)
        num_seen += count
        for layer in layers:
            layer.momentum = count / num_seen
        shared.states(inputs)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()


def _num_samples(inputs: Inputs) -> int:
    return len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)


def _statistics(module: nn.Module) -> dict[str, Tensor]:
    tensors = dict(module.named_buffers())
    return {name: tensors[name] for name in statistic_names(module)}
