"""Kernels that are known to be wrong, and which networks would meet them."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sortednet_cli.data import InputFormat
from sortednet_cli.families import Family
from sortednet_cli.logs import logger
from sortednet_cli.machine.precision import has_avx512, in_bf16
from sortednet_cli.nesting import build_skeleton, spare_skeleton
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import TrainSpec

_BLOCK = 16
"""Channels that oneDNN's kernels for x86 take together, at most."""


def keeps_channels_last(
    family: Family, space: SearchSpace, device: torch.device, uses_bf16: bool
) -> bool:
    """Whether a network can train in `channels_last`; if not, the log says why.

    oneDNN's weight gradient of a 1x1 convolution with a stride writes past its workspace where
    float32 channels lie last and are fewer than its block (uxlfoundation/oneDNN, issue 6035): the
    process crashes, or other numbers change.
    """
    name = overrunning_layer(family, space, device, uses_bf16)
    if name is not None:
        logger.warning(
            "train.channels_last is left out: on this processor oneDNN cannot be trusted with the"
            " gradient of %s, a 1x1 convolution with a stride on fewer than %d channels",
            name,
            _BLOCK,
        )
    return name is None


def overrunning_layer(
    family: Family, space: SearchSpace, device: torch.device, uses_bf16: bool
) -> str | None:
    """Name the first layer that would meet the kernel, or return None if there is none.

    Narrow networks meet it, so the narrowest is looked at.
    """
    if device.type != "cpu" or uses_bf16:
        return None
    skeleton = spare_skeleton(family, space.narrowest)
    if skeleton is None:
        skeleton = build_skeleton(family, family.shrink(space.narrowest))
    for name, layer in skeleton.named_modules():
        if not isinstance(layer, nn.Conv2d) or layer.groups > 1 or layer.in_channels >= _BLOCK:
            continue
        if math.prod(layer.kernel_size) == 1 and max(layer.stride) > 1:
            return str(name)
    return None


def with_trusted_precision(
    train: TrainSpec, family: Family, space: SearchSpace, inputs: InputFormat, device: torch.device
) -> TrainSpec:
    """Replace bfloat16 by float32 where its gradients would be wrong; the log then says why."""
    if not in_bf16(train.precision, device):
        return train
    convolution = narrow_convolution(family, space, inputs, device)
    if convolution is None:
        return train
    logger.warning(
        "train.precision: fp32 is taken, as on this processor oneDNN cannot be trusted with the"
        " gradient in bfloat16 of %s",
        convolution,
    )
    return train.model_copy(update={"precision": "fp32"})


def narrow_convolution(
    family: Family, space: SearchSpace, inputs: InputFormat, device: torch.device
) -> str | None:
    """Describe the first convolution whose bfloat16 gradient would be wrong; None without one.

    With AVX-512, oneDNN's weight gradient in bfloat16 reads what nothing has written where the
    input is narrower than the stride: it is NaN, or any number. So it is for images of 16 pixels
    in the last stage of a ResNet. In float32, and with AVX2 alone, it is right.
    """
    if device.type != "cpu" or not has_avx512() or inputs.kind != "image":
        return None
    return _first_narrow(family, space, inputs)


@lru_cache(maxsize=1)  # a new run asks when it chooses a precision, and when it begins
def _first_narrow(family: Family, space: SearchSpace, inputs: InputFormat) -> str | None:
    """Describe the first convolution whose input is narrower than its stride."""
    for submodel in (space.largest, space.smallest):
        skeleton = build_skeleton(family, family.shrink(submodel)).eval()
        convolutions = _Convolutions()
        with convolutions, torch.no_grad(), torch.device("meta"):
            family.forward(skeleton, inputs.random_inputs(1))
        if convolutions.narrow:
            return convolutions.narrow[0]
    return None


class _Convolutions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Describes the convolutions whose input is narrower than their stride."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.narrow: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            inputs, weight, _, stride = args[:4]
            width, kernel = inputs.shape[-1], weight.shape[-1]
            if width < stride[-1] and kernel > 1:
                self.narrow.append(
                    f"a convolution of kernel size {kernel} with stride {stride[-1]}, whose input"
                    f" has a width of {width}"
                )
        return func(*args, **(kwargs or {}))
