"""Skeletons: stock modules on the meta device, with shapes but without memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode

from sortednet_cli.families import Config, Family

_RANDOM_INITS = {
    *(nn.init.kaiming_normal_, nn.init.kaiming_uniform_, nn.init.normal_, nn.init.uniform_),
    *(nn.init.trunc_normal_, Tensor.normal_, Tensor.uniform_),
}


class _SkipRandomInit(TorchFunctionMode):
    """Skips random initialisation of meta tensors, which takes most of the time to build one."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if func in _RANDOM_INITS:
            tensor = args[0] if args else named["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **named)


def build_skeleton(family: Family, config: Config) -> nn.Module:
    """Build a configuration's module on the meta device.

    Raises:
        RequestError: the stock class refuses the configuration.
    """
    with torch.device("meta"), _SkipRandomInit():
        return family.build(config)


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and persistent buffers by state-dict name; tied ones under each name."""
    tensors = dict(module.named_parameters(remove_duplicate=False))
    persistent = module.state_dict(keep_vars=True)
    buffers = dict(module.named_buffers(remove_duplicate=False))
    return tensors | {name: buffers[name] for name in persistent if name in buffers}


def stored_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The tensors that a file stores: `named_tensors`, with tied ones only by their first name."""
    names = dict(module.named_parameters()) | dict(module.named_buffers())
    return {name: tensor for name, tensor in named_tensors(module).items() if name in names}


def statistic_names(module: nn.Module) -> list[str]:
    """Names of the running statistics of normalisation layers: each sub-model has its own."""
    return [
        f"{path}.{name}" if path else name
        for path, layer in module.named_modules()
        if isinstance(layer, _NormBase) and layer.track_running_stats
        for name, buffer in layer.named_buffers(recurse=False)
        if buffer is not None
    ]


def shapes_of(module: nn.Module) -> Mapping[str, tuple[int, ...]]:
    """Shapes by name; sub-models with equal shapes are the same network."""
    return {name: tuple(tensor.shape) for name, tensor in named_tensors(module).items()}
