"""A network whose tensors lie in parts on many processes, for depths of one stack of layers.

A part is some rows of a tensor, no leading slice of it: a narrower sub-model cannot be a view of
that. A shallower one needs no views: it is made of the root's own modules.
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
from sortednet_cli.nesting.skeleton import build_skeleton, stored_tensors
from sortednet_cli.space import SearchSpace, SubModel

Result = TypeVar("Result")


class ShardedNetwork(NestedNetwork):
    """A root network that no process holds whole (FSDP2), and its sub-models of any depth.

    The layers are gathered one after another while they run, everything else (embedding, final
    norm, head) for as long as `run` works. Layers below an exit alone run: those above it are
    never gathered. Each backward pass leaves the sum over all processes in the parts' gradients.

    Every process must do the same: the same passes, in the same order.

    Args:
        family: the rules of the root network.
        space: the depths that may be asked for.
        module: the root network, with weights on any device or, on the meta device, without.
            Then its parts have memory and no values yet.
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
            _give_memory(layer, device)
            fully_shard(layer, mesh=mesh)
        _give_memory(module, device)
        self._top = _Top(module)
        fully_shard(self._top, mesh=mesh)
        for part in self._top.modules():
            if isinstance(part, FSDPModule):
                # Losses carry their share already: sum, do not average. Gloo can only sum.
                part.set_gradient_divide_factor(1.0)
                part.set_force_sum_reduction_for_comms(True)
        super().__init__(family, space, module)
        # While they are gathered the modules hold other objects: keep these, which are the parts.
        self._parts = dict(module.named_parameters())

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The root's parameters by name, tied ones once, each in parts (DTensor)."""
        return self._parts

    @property
    def weights(self) -> dict[str, Tensor]:
        """What a run stores of the root, in parts: see `whole`."""
        buffers = dict(self.module.named_buffers())
        kept = {n: t for n, t in stored_tensors(self.module).items() if n in buffers}
        return {name: part.detach() for name, part in self._parts.items()} | kept

    @property
    def own_weights(self) -> dict[str, Tensor]:
        return {name: own_part(part.detach()) for name, part in self._parts.items()}

    @property
    def own_gradients(self) -> list[Tensor]:
        gradients = [part.grad for part in self._parts.values()]
        return [own_part(gradient) for gradient in gradients if gradient is not None]

    @property
    def unsummed_gradients(self) -> list[Tensor]:
        """None: every backward pass leaves sums."""
        return []

    def run(self, work: Callable[[], Result]) -> Result:
        """Do `work` with the root's own tensors gathered: what runs sub-models must be in it."""
        return cast(Result, self._top(work))

    def enable_training(self) -> None:
        """Nothing to do: gradients are made by the backward passes, in parts."""

    def zero_gradients(self) -> None:
        for part in self._parts.values():
            part.grad = None

    def expose_gradients(self, touched: Collection[str]) -> None:
        """Nothing to do: what no pass has touched has no gradient."""

    def check_sharing(self, submodel: SubModel) -> None:
        """Nothing to do: a sub-model's modules are the root's."""

    def standalone(self, submodel: SubModel) -> nn.Module:
        raise NotImplementedError("no process holds a whole sub-model; see engine/extract.py")

    def _build(self, submodel: SubModel) -> nn.Module:
        module = build_skeleton(self.family, self.family.shrink(submodel))
        for path, source in self.family.module_map(submodel).items():
            assert source is not None
            owner, leaf = owner_of(module, path)
            setattr(owner, leaf, self.module.get_submodule(source))
        assert not any(parameter.is_meta for parameter in module.parameters())
        self._fill_buffers(module, submodel, self.plan(submodel))
        return module

    def _in_mode(self, submodel: SubModel, training: bool) -> nn.Module:
        # A sub-model's flag says nothing of its layers, which others may have set since.
        return self.at(submodel).train(training)


class _Top(nn.Module):
    """The module whose forward pass is whatever is to be done with gathered tensors."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, work: Callable[[], object]) -> object:
        return work()


def own_part(tensor: Tensor) -> Tensor:
    """This process's rows of a tensor in parts; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def own_rows(tensor: DTensor) -> slice:
    """Which rows of the whole tensor this process holds."""
    count, rank = tensor.device_mesh.size(), tensor.device_mesh.get_local_rank()
    start = min(rank * -(-tensor.shape[0] // count), tensor.shape[0])
    return slice(start, start + own_part(tensor).shape[0])


def whole(tensor: Tensor) -> Tensor:
    """Gather a tensor in parts; every process must, in the same order."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _fill_buffers(family: Family, space: SearchSpace, module: nn.Module) -> None:
    """Give buffers that no file holds their values: they are the same in every sub-model."""
    missing = [name for name, buffer in module.named_buffers() if buffer.is_meta]
    if missing:
        real = dict(fresh_module(family, space.smallest).named_buffers())
        for name in missing:
            owner, leaf = owner_of(module, name)
            setattr(owner, leaf, real[name])


def _give_memory(module: nn.Module, device: torch.device) -> None:
    """Give parameters on the meta device memory on another; tied ones stay tied."""
    made: dict[int, nn.Parameter] = {}
    for layer in module.modules():
        for leaf, old in list(layer.named_parameters(recurse=False)):
            if old.is_meta:
                if id(old) not in made:
                    made[id(old)] = nn.Parameter(torch.empty_like(old, device=device))
                setattr(layer, leaf, made[id(old)])
