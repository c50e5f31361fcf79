"""Sizes of activations over calibration batches, by which units are ordered.

Minitron (arXiv 2407.14679) orders heads, neurons and channels by what they put out on a few
samples, not by their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sortednet_cli.families.shared import Inputs


@torch.no_grad()
def mean_inputs(
    module: nn.Module,
    run: Callable[[nn.Module, Inputs], object],
    batches: Iterable[Inputs],
    dims: Mapping[str, int],
) -> dict[str, Tensor]:
    """Average the absolute inputs of layers, over everything but one dimension.

    Args:
        module: the root network; it runs in evaluation mode.
        run: calls it on inputs.
        batches: calibration batches.
        dims: by the path of each layer, the dimension of its input that counts units.

    Returns:
        By path, [units], relative to their mean, so that all layers weigh the same.
    """
    totals: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for path, dim in dims.items():
            hook = partial(_add, totals, path, dim)
            handle = module.get_submodule(path).register_forward_pre_hook(hook)
            hooks.callback(handle.remove)
        hooks.callback(module.train, module.training)
        module.eval()
        for inputs in batches:
            run(module, inputs)
    return {path: total / total.mean().clamp_min(1e-30) for path, total in totals.items()}


def _add(
    totals: dict[str, Tensor], path: str, dim: int, layer: nn.Module, given: tuple[Any, ...]
) -> None:
    found: Tensor = given[0]
    others = [d for d in range(found.dim()) if d != dim % found.dim()]
    mean = found.abs().float().mean(others)
    # One tensor for all batches: a new one would lie between the activations of the next.
    totals.setdefault(path, torch.zeros_like(mean)).add_(mean)
