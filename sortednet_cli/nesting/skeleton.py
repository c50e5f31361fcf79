"""Skeletons: stock modules on the meta device, which have shapes but no memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode

from sortednet_cli.families import Config, Family

_DRAWS = {
    *(nn.init.kaiming_normal_, nn.init.kaiming_uniform_, nn.init.normal_, nn.init.uniform_),
    *(nn.init.trunc_normal_, Tensor.normal_, Tensor.uniform_),
}


class _NoDraws(TorchFunctionMode):
    """Leaves random first weights out where nothing holds them: most of a skeleton's time."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if func in _DRAWS:
            tensor = args[0] if args else named["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **named)


def build_skeleton(family: Family, config: Config) -> nn.Module:
    """Build a configuration's module on the meta device.

    Raises:
        RequestError: the stock class refuses the configuration.
    """
    with torch.device("meta"), _NoDraws():
        return family.build(config)


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and persistent buffer by its state-dict name, tied ones twice."""
    tensors = dict(module.named_parameters(remove_duplicate=False))
    persistent = module.state_dict(keep_vars=True)
    buffers = dict(module.named_buffers(remove_duplicate=False))
    return tensors | {name: buffers[name] for name in persistent if name in buffers}


def stored_tensors(module: nn.Module) -> dict[str, Tensor]:
    """What a file holds of a module: `named_tensors`, but tied ones once, by the first name."""
    names = dict(module.named_parameters()) | dict(module.named_buffers())
    return {name: tensor for name, tensor in named_tensors(module).items() if name in names}


def statistic_names(module: nn.Module) -> list[str]:
    """Buffers that belong to the sub-model itself: running statistics of normalisation."""
    return [
        f"{path}.{name}" if path else name
        for path, layer in module.named_modules()
        if isinstance(layer, _NormBase) and layer.track_running_stats
        for name, buffer in layer.named_buffers(recurse=False)
        if buffer is not None
    ]


def shapes_of(module: nn.Module) -> Mapping[str, tuple[int, ...]]:
    """Shapes by name: two sub-models with equal ones are the same network."""
    return {name: tuple(tensor.shape) for name, tensor in named_tensors(module).items()}
