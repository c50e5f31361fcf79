"""Which memory format a training takes where its spec leaves the choice open.

Knows how to time a few passes of a network; not how a training runs.
"""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from sortednet_cli.data import InputFormat
from sortednet_cli.engine.training.kernels import overrunning_layer
from sortednet_cli.families import Family
from sortednet_cli.logs import logger
from sortednet_cli.machine.device import move_to
from sortednet_cli.machine.precision import in_bf16
from sortednet_cli.nesting import NestedNetwork, init_network
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import RunSpec, TrainSpec

PASS_SECONDS = 0.1
"""A timed pass takes as many samples as fill this time, up to the training's batch."""

_REPEATS = 3
_CLEARLY = 0.97
"""A ratio of times above this is noise: the default format then stays."""


def with_memory_format(
    spec: RunSpec, family: Family, inputs: InputFormat, device: torch.device
) -> RunSpec:
    """Replace `channels_last = "auto"` by what measures faster on this device.

    A run keeps the format that it began in: `spec.toml` stores `true` or `false`. Nothing is
    measured for texts, where a wrong kernel would be met, or under `train.deterministic`, whose
    results must not depend on a clock: the default format is taken there.
    """
    if spec.train.channels_last != "auto":
        return spec
    space = SearchSpace.of(spec.space)
    chosen = (
        inputs.kind == "image"
        and not spec.train.deterministic
        and overrunning_layer(family, space, device, in_bf16(spec.train.precision, device)) is None
        and _is_faster(family, space, inputs, spec.train, device)
    )
    train = spec.train.model_copy(update={"channels_last": chosen})
    return spec.model_copy(update={"train": train})


def _is_faster(
    family: Family, space: SearchSpace, inputs: InputFormat, train: TrainSpec, device: torch.device
) -> bool:
    ratio = time_in_channels_last(family, space, inputs, train, device)
    name = "channels_last" if ratio < _CLEARLY else "the default format"
    logger.info(
        "train.channels_last = auto: %s (passes in channels_last take %.2f of the time)",
        name,
        ratio,
    )
    return ratio < _CLEARLY


def time_in_channels_last(
    family: Family, space: SearchSpace, inputs: InputFormat, train: TrainSpec, device: torch.device
) -> float:
    """Return the time of passes in `channels_last` over those in the default format.

    The smallest, a middle and the largest sub-model each run forward and backward, in the two
    formats in turn. Networks of either format hold fresh weights; torch's random state is left
    unchanged.
    """
    networks = {}
    for channels_last in (False, True):
        module = move_to(init_network(family, 0), device, channels_last)
        networks[channels_last] = NestedNetwork(family, space, module)
    generator = torch.Generator().manual_seed(0)
    total = dict.fromkeys(networks, 0.0)
    middle = space.submodels[len(space) // 2]
    for submodel in dict.fromkeys((space.smallest, middle, space.largest)):
        count, seconds = 2, {True: [0.0], False: [0.0]}
        for repeat in range(2 + _REPEATS):
            images = inputs.random_inputs(count, generator)
            assert isinstance(images, Tensor)
            for channels_last, network in networks.items():
                seconds[channels_last].append(_time_pass(network, submodel, images, train))
            if repeat == 0:
                share = PASS_SECONDS / seconds[False][-1]
                count = max(2, min(train.batch_size, math.ceil(count * share)))
        # The first passes size the batch, and those after them prepare kernels for its shape.
        for channels_last, found in seconds.items():
            total[channels_last] += min(found[-_REPEATS:])
    return total[True] / total[False]


def _time_pass(
    network: NestedNetwork, submodel: SubModel, images: Tensor, train: TrainSpec
) -> float:
    """Return the seconds of one pass, forward and backward, of `images` [B, C, H, W]."""
    module, device = network.at(submodel).train(), network.device
    module.zero_grad()
    images = images.to(device)
    _wait(device)
    start = time.perf_counter()
    enabled = in_bf16(train.precision, device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled):
        logits = network.family.forward(module, images)
    torch.autograd.backward(logits.float().square().mean())
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()
