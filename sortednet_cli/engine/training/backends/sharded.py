"""No process holds the whole network: FSDP2.

Files are those of any other run: each process reads its rows of them, and a tensor is gathered
when its turn comes to be written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from sortednet_cli.distributed.processes import Processes, lost_peers
from sortednet_cli.distributed.sharded_network import (
    ShardedNetwork,
    full_tensor,
    local_rows,
    local_shard,
)
from sortednet_cli.engine.training.backends.base import Backend, Beginning, Samples, check_space
from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.errors import RequestError
from sortednet_cli.families import Family
from sortednet_cli.nesting import NestedNetwork, build_skeleton, init_network
from sortednet_cli.seeds import stream_seed
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import RunSpec
from sortednet_cli.storage.checkpoint import (
    Checkpoint,
    CheckpointFolder,
    is_written,
    newest_checkpoint,
    save_checkpoint,
)
from sortednet_cli.storage.checks import FileCheck
from sortednet_cli.storage.pretrained import open_pretrained
from sortednet_cli.storage.run import RunFolder
from sortednet_cli.storage.tensor_writer import entries_of, in_file_order, write_tensors
from sortednet_cli.storage.tensors import TensorFiles, open_tensors

Item = TypeVar("Item")


class Sharded(Backend):
    """A part of every tensor on each process; all take part in every pass and every file."""

    whole_after_loss = False

    def begin(
        self,
        run: RunFolder,
        spec: RunSpec,
        family: Family,
        device: torch.device,
        samples: Samples,
    ) -> Beginning:
        space, saved = SearchSpace.of(spec.space), newest_checkpoint(run)
        if saved is not None:
            saved.verify()
            check_space(run, space, saved.counters)
        network, optimizer = _open_shards(spec, family, space, device, self.processes, saved)
        return network, optimizer, saved.counters if saved else None

    def stops(self, asked: bool) -> bool:
        # All are in the same pass: one that left it would leave the others waiting there.
        (stop,) = self.processes.any(asked or self.processes.abandoned)
        return stop

    def wait_for_device(self, device: torch.device, stopped: Callable[[], bool]) -> None:
        """Nothing to do: a process that dies shows in the pass that it leaves."""

    def save(self, run: RunFolder, state: Callable[[], Checkpoint]) -> None:
        made = state()
        (wanted,) = self.processes.any(self.processes.leads and not is_written(run, made.update))
        with lost_peers():
            if self.processes.leads:
                save_checkpoint(run, made, full_tensor)
            elif wanted:
                _follow(made.weights)
                _follow(made.optimizer)

    def write_weights(self, path: Path, network: NestedNetwork) -> dict[Path, FileCheck]:
        with lost_peers():
            if self.processes.leads:
                return {path: write_tensors(path, network.weights, gather=full_tensor)}
            _follow(network.weights)
            return {}

    def scored_here(self, groups: Sequence[Item]) -> Sequence[Item]:
        return groups

    @property
    def groups_at_once(self) -> int:
        return 1


def _open_shards(
    spec: RunSpec,
    family: Family,
    space: SearchSpace,
    device: torch.device,
    processes: Processes,
    saved: CheckpointFolder | None,
) -> tuple[ShardedNetwork, RootOptimizer]:
    """Make this process's part of a run's network and optimizer.

    Its values are those that the network would have whole: of the checkpoint, of pretrained
    weights, or fresh ones of the spec's seed.

    Raises:
        RequestError: a file does not belong to the model.
    """
    skeleton = build_skeleton(family, family.root.config)
    shapes = {name: tuple(p.shape) for name, p in skeleton.named_parameters()}
    if saved is not None:
        with open_tensors(saved.weights) as files:
            _check_names(saved, files, shapes)
            network = _in_parts(family, space, skeleton, device, processes)
            _fill(network, files, {name: name for name in shapes})
        optimizer = RootOptimizer(network, spec.train)
        with open_tensors(saved.optimizer) as files:
            optimizer.load_state({path: _own_state(network, files, path) for path in files.names})
        return network, optimizer
    seed, name = stream_seed(spec.train.seed, "init"), spec.model.pretrained
    if name is None:
        network = _fresh(family, space, seed, device, processes)
    else:
        with open_tensors(*open_pretrained(name).files) as files:
            found = {n: tuple(files.slices(n).get_shape()) for n in files.names}
            names = family.starting_names(skeleton, found, files.read, name)
            network = (
                _in_parts(family, space, skeleton, device, processes)
                if shapes.keys() <= names.keys()
                else _fresh(family, space, seed, device, processes)
            )
            _fill(network, files, names)
    return network, RootOptimizer(network, spec.train)


def _follow(tensors: Mapping[str, Tensor]) -> None:
    """Take part in gathering what the first process writes."""
    for entry in in_file_order(entries_of(tensors, full_tensor)):
        for _ in entry.blocks():
            pass


def _in_parts(
    family: Family,
    space: SearchSpace,
    module: nn.Module,
    device: torch.device,
    processes: Processes,
) -> ShardedNetwork:
    if device.type == "cuda":
        torch.cuda.set_device(device)
    mesh = init_device_mesh(device.type, (processes.count,))
    return ShardedNetwork(family, space, module, mesh)


def _fresh(
    family: Family,
    space: SearchSpace,
    seed: int,
    device: torch.device,
    processes: Processes,
) -> ShardedNetwork:
    """Take this process's part of fresh weights; one process at a time makes all of them.

    They are a stream of random numbers, none of which can be had without those before it.
    """
    for turn in range(processes.count):
        if turn == processes.rank:
            network = _in_parts(family, space, init_network(family, seed), device, processes)
        processes.any(False)
    return network


def _fill(network: ShardedNetwork, files: TensorFiles, names: Mapping[str, str]) -> None:
    """Read this process's rows of every parameter that `names` tells a stored name of."""
    own = dict(network.module.named_parameters(remove_duplicate=False))
    for name, stored in names.items():
        _read_rows(own[name], files, stored)


@torch.no_grad()
def _read_rows(target: Tensor, files: TensorFiles, name: str) -> None:
    assert isinstance(target, DTensor)
    rows = local_rows(target)
    if rows.stop > rows.start:
        local_shard(target).copy_(files.read(name, (rows,)))


def _own_state(network: ShardedNetwork, files: TensorFiles, path: str) -> Tensor:
    """Read this process's rows of one tensor of the optimizer's state, or a number whole."""
    parameter = network.parameters.get(path.rpartition("/")[0])
    shape = tuple(files.slices(path).get_shape())
    if parameter is None or shape != tuple(parameter.shape):
        return files.read(path)
    state = torch.empty_like(parameter, dtype=files.dtype(path), requires_grad=False)
    _read_rows(state, files, path)
    return state


def _check_names(
    saved: CheckpointFolder, files: TensorFiles, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    if {n: tuple(files.slices(n).get_shape()) for n in files.names} != shapes:
        raise RequestError(f"{saved.weights} does not belong here: its tensors are not the model's")
