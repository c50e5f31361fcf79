"""The network and optimizer that a training begins with: fresh, pretrained, or of a checkpoint."""

from __future__ import annotations

import torch
from torch import nn

from sortednet_cli.distributed.processes import Processes
from sortednet_cli.engine.training.kernels import keeps_channels_last
from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.errors import RequestError
from sortednet_cli.families import (
    Family,
    TransformerFamily,
    load_checkpoint_tensors,
    reorder_by_importance,
)
from sortednet_cli.machine.device import move_to
from sortednet_cli.machine.precision import in_bf16
from sortednet_cli.nesting import (
    NestedNetwork,
    begin_as_identity,
    init_network,
    zero_crossing_weights,
)
from sortednet_cli.seeds import stream_seed
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import RunSpec
from sortednet_cli.storage.checkpoint import Checkpoint, load_checkpoint, newest_checkpoint
from sortednet_cli.storage.manifest import Counters
from sortednet_cli.storage.pretrained import open_pretrained
from sortednet_cli.storage.run import RunFolder

Beginning = tuple[NestedNetwork, RootOptimizer, Checkpoint | Counters | None]
"""The third tells how far the newest checkpoint had come, if there is one."""


def begin_whole(
    run: RunFolder, spec: RunSpec, family: Family, device: torch.device, processes: Processes
) -> Beginning:
    """Begin with a network that every process holds whole.

    Raises:
        RequestError: a file does not belong to the model, or to the search space.
    """
    train, space = spec.train, SearchSpace.of(spec.space)
    module = init_network(family, stream_seed(train.seed, "init"))
    saved = load_checkpoint(run, sum(t.nbytes for t in module.state_dict().values()))
    channels_last = train.channels_last and keeps_channels_last(
        family, space, device, in_bf16(train.precision, device)
    )
    placed = move_to(module, device, channels_last)
    network = NestedNetwork(family, space, placed, compiles=train.compile)
    network.enable_training()
    optimizer = RootOptimizer(network, train)
    if saved is not None:
        _check_space(run, space, saved)
        _restore(run, network, saved)
        optimizer.load_state(saved.optimizer)
    elif spec.model.pretrained is not None:
        _start_from(spec, family, network.module)
    elif spec.model.init != "stock":
        zero_crossing_weights(network)
        if spec.model.init == "nested-identity":
            begin_as_identity(network)
    processes.same_start([p.detach() for p in network.parameters.values()])
    return network, optimizer, saved


def begin_sharded(
    run: RunFolder, spec: RunSpec, family: Family, device: torch.device, processes: Processes
) -> Beginning:
    """Begin with a network of which each process holds a part; errors as `begin_whole`."""
    from sortednet_cli.engine.training.sharding import open_shards

    assert isinstance(family, TransformerFamily)
    space, saved = SearchSpace.of(spec.space), newest_checkpoint(run)
    if saved is not None:
        saved.verify()
        _check_space(run, space, saved.counters)
    network, optimizer = open_shards(spec, family, space, device, processes, saved)
    return network, optimizer, saved.counters if saved else None


def _check_space(run: RunFolder, space: SearchSpace, saved: Checkpoint | Counters) -> None:
    if saved.space != space.as_lists():
        raise RequestError(
            f"{run.path}: the checkpoint was trained under another search space"
            f" ({saved.space}) than that of spec.toml ({space.as_lists()}):"
            " put the old one back, or train a new run"
        )


def _start_from(spec: RunSpec, family: Family, module: nn.Module) -> None:
    """Copy pretrained weights into the root network, in the spec's order of importance."""
    name = spec.model.pretrained
    assert name is not None and isinstance(family, TransformerFamily)
    load_checkpoint_tensors(family, module, open_pretrained(name).tensors(), name)
    if spec.model.reorder != "none":
        reorder_by_importance(module, family.root.config, family.architecture.layers)


def _restore(run: RunFolder, network: NestedNetwork, saved: Checkpoint) -> None:
    own = network.weights
    if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in saved.weights.items()}:
        raise RequestError(
            f"{run.checkpoints}: weights.safetensors of step {saved.update}"
            " does not belong here: its tensors are not the model's"
        )
    network.module.load_state_dict(saved.weights, strict=False)
