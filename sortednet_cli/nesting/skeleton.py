"""Skeletons: stock modules on the meta device, with shapes but without memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.nn.modules.batchnorm import _NormBase

from sortednet_cli.families import Config, Family

_Init = Callable[..., Tensor]


def build_skeleton(family: Family, config: Config) -> nn.Module:
    """Build a configuration's module on the meta device.

    Raises:
        RequestError: the stock class refuses the configuration.
    """
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    # Constructors may read values of small tensors, which fake ones do not have.
    with unset_fake_temporarily(), torch.device("meta"), _skipping_meta_tensors():
        return family.build(config)


def build_fake(family: Family, config: Config) -> nn.Module:
    """Build a configuration's module with fake tensors of a CPU; call it under a FakeTensorMode."""
    module, device = build_skeleton(family, config), torch.device("cpu")
    allocate(module, device)
    for layer in module.modules():
        for leaf, buffer in list(layer.named_buffers(recurse=False)):
            setattr(layer, leaf, torch.empty_like(buffer, device=device))
    return module


def allocate(module: nn.Module, device: torch.device) -> None:
    """Allocate memory on `device` for parameters on the meta device; tied ones stay tied."""
    allocated: dict[int, nn.Parameter] = {}
    for layer in module.modules():
        for leaf, meta in list(layer.named_parameters(recurse=False)):
            if meta.is_meta:
                if id(meta) not in allocated:
                    allocated[id(meta)] = nn.Parameter(torch.empty_like(meta, device=device))
                setattr(layer, leaf, allocated[id(meta)])


@contextmanager
def _skipping_meta_tensors() -> Iterator[None]:
    """Let the functions of `torch.nn.init` skip meta tensors, which takes most of the time else.

    They fill all other tensors as before, in every thread.
    """
    public = {n: f for n, f in vars(init).items() if n.endswith("_") and not n.startswith("_")}
    vars(init).update({name: _unless_meta(function) for name, function in public.items()})
    try:
        yield
    finally:
        vars(init).update(public)


def _unless_meta(fill: _Init) -> _Init:
    @wraps(fill)
    def filled(tensor: Tensor, *args: object, **named: object) -> Tensor:
        return tensor if tensor.is_meta else fill(tensor, *args, **named)

    return filled


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
