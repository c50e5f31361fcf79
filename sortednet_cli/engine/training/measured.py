"""Which precision and memory format a training takes where its spec leaves the choice open.

Knows how to time a few passes of a network; not how a training runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from sortednet_cli.data import InputFormat
from sortednet_cli.engine.training.kernels import overrunning_layer, with_trusted_precision
from sortednet_cli.families import Family, Inputs
from sortednet_cli.logs import logger
from sortednet_cli.machine.clock import work_clock
from sortednet_cli.machine.cuda_graphs import open_graphs
from sortednet_cli.machine.device import move_to, wait_for
from sortednet_cli.machine.graphs import WARMUPS
from sortednet_cli.machine.memory import lack_of_memory
from sortednet_cli.machine.precision import has_bf16
from sortednet_cli.nesting import NestedNetwork, init_network
from sortednet_cli.nesting.skeleton import build_skeleton
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import RunSpec, TrainSpec

PASS_SECONDS = 0.1
"""A timed pass takes as many samples as fill this time, up to the training's batch."""

_REPEATS = 3
_SLOW_PASS = 1.0
"""Where two samples take more seconds than this, a second pass decides: there noise is little."""
_CLEARLY = 0.97
"""A ratio of times above this is noise: fp32 and the default format then stay."""
_MOST_PARAMS = 1e9
"""Larger networks are not built a second time to be timed."""


@dataclass(frozen=True)
class Way:
    """How passes are computed: in `fp32` or `bf16`, in `channels_last` or the default format."""

    precision: str = "fp32"
    channels_last: bool = False

    def __str__(self) -> str:
        return f"{self.precision}{' with channels_last' if self.channels_last else ''}"


def with_measured(
    spec: RunSpec, family: Family, inputs: InputFormat, device: torch.device
) -> RunSpec:
    """Replace `auto` as precision and as `channels_last` by what measures faster on this device.

    A run keeps what it began with: `spec.toml` stores it. Nothing is measured where there is no
    choice, nor under `train.deterministic`, whose results must not depend on a clock, nor for
    networks that are sharded or too large to be built a second time.
    """
    space, train = SearchSpace.of(spec.space), spec.train
    ways = list(_ways(family, space, inputs, train, device))
    chosen = ways[0]
    if len(ways) > 1:
        with torch.random.fork_rng(devices=[]):  # dropout draws from it
            seconds = time_passes(family, space, inputs, train, device, ways)
        chosen = _fastest(seconds) if seconds else ways[0]
        one = next(iter(seconds.values()), 1.0)
        told = ", ".join(f"{way} {taken / one:.2f}" for way, taken in seconds.items())
        logger.info("auto: passes in %s are taken (time of a pass: %s)", chosen, told)
    found = {"precision": chosen.precision, "channels_last": chosen.channels_last}
    return spec.model_copy(update={"train": train.model_copy(update=found)})


def _ways(
    family: Family, space: SearchSpace, inputs: InputFormat, train: TrainSpec, device: torch.device
) -> Iterator[Way]:
    """What a spec leaves open, the plainest first."""
    for precision in _precisions(family, space, inputs, train, device):
        formats: Sequence[bool] = (False, True)
        if train.channels_last != "auto":
            formats = (train.channels_last,)
        elif (
            inputs.kind != "image"
            or not _may_time(family, train)
            or overrunning_layer(family, space, device, precision == "bf16") is not None
        ):
            formats = (False,)
        for channels_last in formats:
            yield Way(precision, channels_last)


def _precisions(
    family: Family,
    space: SearchSpace,
    inputs: InputFormat,
    train: TrainSpec,
    device: torch.device,
) -> Sequence[str]:
    if train.precision != "auto":
        return (train.precision,)
    if not has_bf16(device):
        return ("fp32",)
    if with_trusted_precision(train, family, space, inputs, device).precision == "fp32":
        return ("fp32",)
    return ("fp32", "bf16") if _may_time(family, train) else ("bf16",)


def _may_time(family: Family, train: TrainSpec) -> bool:
    return not (train.deterministic or train.shard or _num_params(family) > _MOST_PARAMS)


def _num_params(family: Family) -> int:
    root = build_skeleton(family, family.root.config)
    return sum(parameter.numel() for parameter in root.parameters())


def _fastest(seconds: Mapping[Way, float]) -> Way:
    """The way that is fastest, or a plainer one that takes hardly longer."""
    least = min(seconds.values())
    return next(way for way, taken in seconds.items() if least > _CLEARLY * taken)


def time_passes(
    family: Family,
    space: SearchSpace,
    inputs: InputFormat,
    train: TrainSpec,
    device: torch.device,
    ways: Sequence[Way],
) -> dict[Way, float]:
    """Return how long passes take, in seconds, each way that memory holds.

    A middle and the largest sub-model each run forward and backward, each way in turn; on a CUDA
    device recorded, if the training's are. Networks hold fresh weights.
    """
    timers = {}
    for channels_last in {way.channels_last for way in ways}:
        module = move_to(init_network(family, 0), device, channels_last)
        timers[channels_last] = _Timer(NestedNetwork(family, space, module), train)
    generator = torch.Generator().manual_seed(0)
    total = dict.fromkeys(ways, 0.0)
    for submodel in dict.fromkeys((space.submodels[len(space) // 2], space.largest)):
        count, seconds = 2, dict.fromkeys(ways, 0.0)
        for repeat in range(3 + WARMUPS + _REPEATS):
            batch = inputs.random_inputs(count, generator)
            for way in list(total):
                try:
                    taken = timers[way.channels_last](submodel, batch, way.precision)
                except (MemoryError, RuntimeError) as error:
                    if lack_of_memory(error) is None:
                        raise
                    logger.info("auto: there is no memory for passes in %s", way)
                    del total[way]
                    continue
                # The first pass builds, the second sizes the batch, and those after it prepare
                # kernels for its shape.
                seconds[way] = min(seconds[way], taken) if repeat > 3 + WARMUPS else taken
            if repeat == 1 and total:
                taken = seconds[next(iter(total))]
                if taken > _SLOW_PASS:
                    break
                count = max(2, min(train.batch_size, math.ceil(count * PASS_SECONDS / taken)))
        for way in total:
            total[way] += seconds[way]
    return total


class _Timer:
    """Times passes of a network."""

    def __init__(self, network: NestedNetwork, train: TrainSpec) -> None:
        self._network = network
        choice = False if train.compile else train.cuda_graphs
        self._graphs = open_graphs(choice, network.device, "train.cuda_graphs = true")
        if self._graphs is not None:
            network.enable_training(in_place=True)  # as recorded passes need

    def __call__(self, submodel: SubModel, batch: Inputs, precision: str) -> float:
        """Return the seconds of one pass, forward and backward."""
        device = self._network.device
        batch = tree_map(lambda tensor: tensor.to(device), batch)
        work = partial(self._run, submodel, precision)
        wait_for(device)
        clock = work_clock(device)
        start = clock()
        if self._graphs is None:
            work(batch)
        else:
            self._graphs.run((submodel, precision), work, batch)
        wait_for(device)
        return clock() - start

    def _run(self, submodel: SubModel, precision: str, batch: Inputs) -> list[Tensor]:
        module, device = self._network.at(submodel).train(), self._network.device
        if self._graphs is None:
            module.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = self._network.family.forward(module, batch)
        torch.autograd.backward(logits.float().square().mean())
        return []
