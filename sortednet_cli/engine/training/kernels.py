"""Kernels that are known to be wrong, and which networks would meet them."""

from __future__ import annotations

import math

import torch
from torch import nn

from sortednet_cli.families import Family
from sortednet_cli.logs import logger
from sortednet_cli.nesting import build_skeleton, spare_skeleton
from sortednet_cli.space import SearchSpace, SubModel

_BLOCK = 16
"""Channels that oneDNN's kernels for x86 take together, at most."""


def keeps_channels_last(
    family: Family, space: SearchSpace, device: torch.device, in_bf16: bool
) -> bool:
    """Whether a network can train in `channels_last`; if not, the log says why.

    oneDNN's weight gradient of a 1x1 convolution with a stride writes past its workspace where
    float32 channels lie last and are fewer than its block (uxlfoundation/oneDNN, issue 6035): the
    process crashes, or other numbers change.
    """
    name = overrunning_layer(family, space, device, in_bf16)
    if name is not None:
        logger.warning(
            "train.channels_last is left out: on this processor oneDNN cannot be trusted with the"
            " gradient of %s, a 1x1 convolution with a stride on fewer than %d channels",
            name,
            _BLOCK,
        )
    return name is None


def overrunning_layer(
    family: Family, space: SearchSpace, device: torch.device, in_bf16: bool
) -> str | None:
    """Name the first layer that would meet the kernel, or return None if there is none.

    Narrow networks meet it, so the narrowest is looked at.
    """
    if device.type != "cpu" or in_bf16:
        return None
    narrowest = SubModel.of(
        {axis: max(values) if axis == "depth" else min(values) for axis, values in space.axes}
    )
    skeleton = spare_skeleton(family, narrowest)
    if skeleton is None:
        skeleton = build_skeleton(family, family.shrink(narrowest))
    for name, layer in skeleton.named_modules():
        if not isinstance(layer, nn.Conv2d) or layer.groups > 1 or layer.in_channels >= _BLOCK:
            continue
        if math.prod(layer.kernel_size) == 1 and max(layer.stride) > 1:
            return str(name)
    return None
