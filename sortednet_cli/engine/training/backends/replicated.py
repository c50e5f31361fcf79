"""Every process holds the whole network; gradients are summed once an update."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from sortednet_cli.distributed.processes import TIMEOUT, PeerLost
from sortednet_cli.engine.training.backends.base import Backend, Beginning, Samples, check_space
from sortednet_cli.engine.training.kernels import keeps_channels_last
from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.errors import RequestError
from sortednet_cli.families import Family
from sortednet_cli.machine.device import finishes_in_time, move_to
from sortednet_cli.machine.precision import in_bf16
from sortednet_cli.nesting import (
    NestedNetwork,
    init_as_identity,
    init_network,
    zero_crossing_weights,
)
from sortednet_cli.seeds import stream_seed
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import RunSpec
from sortednet_cli.storage.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sortednet_cli.storage.checks import FileCheck
from sortednet_cli.storage.first_weights import read_weights
from sortednet_cli.storage.pretrained import open_pretrained
from sortednet_cli.storage.run import RunFolder
from sortednet_cli.storage.tensor_writer import write_tensors

Item = TypeVar("Item")

CALIBRATION_BATCHES = 8
"""Training batches on which activations are measured, to order units by them."""


class Replicated(Backend):
    """A network on each process: the first one writes, and each scores its share."""

    whole_after_loss = True

    def begin(
        self,
        run: RunFolder,
        spec: RunSpec,
        family: Family,
        device: torch.device,
        samples: Samples,
    ) -> Beginning:
        train, space = spec.train, SearchSpace.of(spec.space)
        module = init_network(family, stream_seed(train.seed, "init"))
        channels_last = train.in_channels_last and keeps_channels_last(
            family, space, device, in_bf16(train.precision, device)
        )
        placed = move_to(module, device, channels_last)
        network = NestedNetwork(family, space, placed, compiles=train.compile)
        own = placed.state_dict() | network.weights
        saved = load_checkpoint(run, sum(tensor.nbytes for tensor in own.values()))
        # One buffer is what several processes sum.
        network.enable_training(in_place=self.processes.count > 1 or device.type != "cpu")
        optimizer = RootOptimizer(network, train)
        if saved is not None:
            check_space(run, space, saved)
            _restore(run, network, saved)
            optimizer.load_state(saved.optimizer)
        else:
            _set_first_weights(spec, family, network, samples)
            network.start_own_norms()
        self.processes.broadcast([p.detach() for p in network.parameters.values()])
        return network, optimizer, saved

    def stops(self, asked: bool) -> bool:
        return asked or self.processes.abandoned

    def wait_for_device(self, device: torch.device, stopped: Callable[[], bool]) -> None:
        if self.processes.count == 1:
            return
        end = time.monotonic() + TIMEOUT.total_seconds()
        while not finishes_in_time(device, seconds=1.0):
            if stopped() or time.monotonic() > end:
                raise PeerLost("the device waits for another process of this training")

    def save(self, run: RunFolder, state: Callable[[], Checkpoint]) -> None:
        if self.processes.leads:
            save_checkpoint(run, state())

    def write_weights(self, path: Path, network: NestedNetwork) -> dict[Path, FileCheck]:
        return {path: write_tensors(path, network.weights)} if self.processes.leads else {}

    def scored_here(self, groups: Sequence[Item]) -> Sequence[Item]:
        return self.processes.assigned(groups)

    @property
    def groups_at_once(self) -> int:
        return self.processes.count


def _set_first_weights(
    spec: RunSpec, family: Family, network: NestedNetwork, samples: Samples
) -> None:
    """Replace what the stock class has drawn, where the spec asks for it."""
    if spec.model.pretrained is not None:
        _start_from(spec, family, network.module, samples)
    elif spec.model.init != "stock":
        zero_crossing_weights(network)
        if spec.model.init == "nested-identity":
            init_as_identity(network)


def _start_from(spec: RunSpec, family: Family, module: nn.Module, samples: Samples) -> None:
    """Copy pretrained weights into the root network, in the spec's order of importance."""
    name = spec.model.pretrained
    assert name is not None
    from_folder = family.facts.pretrained == "folder"
    tensors = open_pretrained(name).tensors() if from_folder else read_weights(name)
    family.load_pretrained(module, tensors, name)
    if spec.model.reorder != "none":
        by_activation = spec.model.reorder == "activation"
        batches = samples(CALIBRATION_BATCHES if by_activation else 1)
        family.reorder(module, batches, by_activation=by_activation)


def _restore(run: RunFolder, network: NestedNetwork, saved: Checkpoint) -> None:
    own = network.weights
    if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in saved.weights.items()}:
        raise RequestError(
            f"{run.checkpoints}: weights.safetensors of step {saved.update}"
            " does not belong here: its tensors are not the model's"
        )
    network.load(saved.weights)
