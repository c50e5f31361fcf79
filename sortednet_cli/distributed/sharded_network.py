"""A network whose tensors are sharded over processes, for sub-models that differ only in depth.

A shard is some rows of a tensor, not a leading slice, so a narrower sub-model cannot be a view of
it. A shallower sub-model needs no views: it consists of the root's own modules.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from sortednet_cli.families import Family
from sortednet_cli.nesting.network import NestedNetwork, fresh_module, owner_of
from sortednet_cli.nesting.plan import take_skeleton
from sortednet_cli.nesting.skeleton import allocate, stored_tensors
from sortednet_cli.space import SearchSpace, SubModel

Result = TypeVar("Result")


class ShardedNetwork(NestedNetwork):
    """A root network sharded over processes (FSDP2), and its sub-models of any depth.

    Each layer is gathered while it runs; everything else (embedding, final norm, head) is gathered
    for as long as `run` works. Only the layers below an exit run: those above it are not gathered.
    Each backward pass leaves gradients summed over all processes in the shards.

    Every process must run the same passes in the same order.

    Args:
        family: the model family of the root network.
        space: the sub-models, with depth as their only axis.
        module: the root network with weights on any device, or a skeleton. The shards of a
            skeleton have memory but no values yet.
        mesh: all processes, in one dimension.
    """

    sharded = True

    def __init__(
        self, family: Family, space: SearchSpace, module: nn.Module, mesh: DeviceMesh
    ) -> None:
        device = torch.device(mesh.device_type)
        if device.type == "cuda":
            device = torch.device("cuda", torch.cuda.current_device())
        _fill_buffers(family, space, module)
        for layer in family.layers(module):
            allocate(layer, device)
            fully_shard(layer, mesh=mesh)
        allocate(module, device)
        self._top = _Top(module)
        fully_shard(self._top, mesh=mesh)
        for layer in self._top.modules():
            if isinstance(layer, FSDPModule):
                # Losses are weighted already: sum gradients, as gloo cannot average either.
                layer.set_gradient_divide_factor(1.0)
                layer.set_force_sum_reduction_for_comms(True)
        super().__init__(family, space, module)
        # Gathered modules hold other parameter objects: keep the sharded ones.
        self._shards = dict(module.named_parameters())

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The root's parameters by name, tied ones once, each sharded (DTensor)."""
        return self._shards

    @property
    def weights(self) -> dict[str, Tensor]:
        """The tensors of the root that a run stores, sharded; `full_tensor` gathers one."""
        buffers = dict(self.module.named_buffers())
        stored = {n: t for n, t in stored_tensors(self.module).items() if n in buffers}
        return {name: shard.detach() for name, shard in self._shards.items()} | stored

    def local(self, tensor: Tensor) -> Tensor:
        return local_shard(tensor)

    @property
    def local_gradients(self) -> list[Tensor]:
        gradients = [shard.grad for shard in self._shards.values()]
        return [local_shard(gradient) for gradient in gradients if gradient is not None]

    @property
    def unsummed_gradients(self) -> list[Tensor]:
        """Empty: every backward pass leaves summed gradients."""
        return []

    def run(self, work: Callable[[], Result]) -> Result:
        """Call `work` with the root's embedding, norm and head gathered; only it may run passes."""
        return cast(Result, self._top(work))

    def enable_training(self, *, in_place: bool = True) -> None:
        """Nothing to do: backward passes allocate sharded gradients."""

    def zero_gradients(self) -> None:
        for shard in self._shards.values():
            shard.grad = None

    def expose_gradients(self, touched: Collection[str]) -> None:
        """Nothing to do: a parameter that no pass has touched has no gradient."""

    def check_sharing(self, submodel: SubModel) -> None:
        """Nothing to do: a sub-model consists of the root's modules."""

    def standalone(self, submodel: SubModel) -> nn.Module:
        raise NotImplementedError("no process holds a full sub-model: extract one from the run")

    def _build(self, submodel: SubModel) -> nn.Module:
        plan = self.plan(submodel)
        module = take_skeleton(self.family, submodel, self.inspect)
        for path, source in self.family.module_map(submodel).items():
            assert source is not None
            owner, leaf = owner_of(module, path)
            setattr(owner, leaf, self.module.get_submodule(source))
        assert not any(parameter.is_meta for parameter in module.parameters())
        self._fill_buffers(module, submodel, plan)
        return module

    def _in_mode(self, submodel: SubModel, training: bool) -> nn.Module:
        # Always set it: another sub-model may have changed the mode of shared layers since.
        return self.at(submodel).train(training)


class _Top(nn.Module):
    """A module whose forward pass calls a function while FSDP2 has its tensors gathered."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, work: Callable[[], object]) -> object:
        return work()


def local_shard(tensor: Tensor) -> Tensor:
    """Return this process's rows of a sharded tensor; any other tensor unchanged."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def local_rows(tensor: DTensor) -> slice:
    """Return the slice of rows of the full tensor that this process holds."""
    count, rank = tensor.device_mesh.size(), tensor.device_mesh.get_local_rank()
    start = min(rank * -(-tensor.shape[0] // count), tensor.shape[0])
    return slice(start, start + local_shard(tensor).shape[0])


def full_tensor(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor; every process must call it, in the same order."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _fill_buffers(family: Family, space: SearchSpace, module: nn.Module) -> None:
    """Set non-persistent buffers, which are the same in every sub-model."""
    missing = [name for name, buffer in module.named_buffers() if buffer.is_meta]
    if missing:
        values = dict(fresh_module(family, space.smallest).named_buffers())
        for name in missing:
            owner, leaf = owner_of(module, name)
            setattr(owner, leaf, values[name])
