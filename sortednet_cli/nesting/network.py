"""The nested network: sub-models as ordinary modules that share one set of weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property, partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from sortednet_cli.errors import RequestError
from sortednet_cli.families import Family, SharedPass
from sortednet_cli.nesting.compiled import compile_blocks
from sortednet_cli.nesting.plan import SlicePlan, plan_between, plan_from_root
from sortednet_cli.nesting.skeleton import (
    build_skeleton,
    named_tensors,
    statistic_names,
    stored_tensors,
)
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.space.submodel import rest_of

_ALIGNMENT = 64
"""Elements that each gradient's place is a multiple of: vector loads start on a cache line."""

Statistics = Mapping[str, Tensor]
"""Normalisation buffers of one sub-model by name."""

Result = TypeVar("Result")


class NestedNetwork:
    """A root network and its sub-models, each a stock module over views of the root.

    `at(width=0.5, depth=8)` returns an `nn.Module` whose parameters are leading slices of
    the root's tensors: same storage, nothing copied. After `enable_training()` the `.grad`
    of each is the same slice of the root's gradient, so `backward()` on a sub-model fills
    the root's gradient in place. A module is built once and kept.

    Args:
        family: the rules of the root network.
        space: the sub-models that may be asked for.
        module: the root network with its weights, already on its device and in its memory
            format: moving it later would part it from the views.
        statistics: normalisation statistics of the sub-models by name, if known.
        outer: the sub-model that `module` is, where it was itself cut out of the root.
        compiles: whether blocks are compiled for training.
    """

    sharded = False
    """Whether each process holds but a part of every tensor."""

    def __init__(
        self,
        family: Family,
        space: SearchSpace,
        module: nn.Module,
        statistics: Mapping[str, Statistics] | None = None,
        outer: SubModel | None = None,
        compiles: bool = False,
    ) -> None:
        self.family = family
        self.space = space
        self.module = module
        self.outer = outer
        self.compiles = compiles
        self.statistics: dict[str, Statistics] = dict(statistics or {})
        self.gradients: dict[str, Tensor] = {}
        self.gradient_buffers: list[Tensor] = []
        self._tensors = named_tensors(module)
        self._modules: dict[SubModel, nn.Module] = {}
        self._shared: dict[SubModel, list[tuple[str, nn.Parameter, Tensor, Tensor]]] = {}
        self._plans: dict[SubModel, SlicePlan] = {}

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The root's parameters by name, tied ones once."""
        return dict(self.module.named_parameters())

    @property
    def weights(self) -> dict[str, Tensor]:
        """What a run stores of the root: every tensor but normalisation statistics."""
        skip = set(statistic_names(self.module))
        own = stored_tensors(self.module).items()
        return {name: tensor.detach() for name, tensor in own if name not in skip}

    @property
    def device(self) -> torch.device:
        return next(iter(self._tensors.values())).device

    @property
    def own_weights(self) -> dict[str, Tensor]:
        """What this process holds of the parameters, tied ones once."""
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    @property
    def own_gradients(self) -> list[Tensor]:
        """All gradients that this process holds."""
        return self.gradient_buffers

    @property
    def unsummed_gradients(self) -> list[Tensor]:
        """Those of them that an update has still to sum over all processes."""
        return self.gradient_buffers

    def at(self, submodel: SubModel | None = None, /, **axes: int | float) -> nn.Module:
        """Return a sub-model's module: the same object every time.

        A new one is in the root's mode (train or eval) and stays as it is put later.

        Raises:
            RequestError: a value is not in the search space.
        """
        if submodel is None:
            submodel = self.space.resolve(axes)
        if submodel not in self._modules:
            self._modules[submodel] = self._build(submodel)
        return self._modules[submodel]

    def plan(self, submodel: SubModel) -> SlicePlan:
        if submodel not in self._plans:
            self._plans[submodel] = (
                plan_from_root(self.family, submodel)
                if self.outer is None
                else plan_between(self.family, self.outer, submodel)
            )
        return self._plans[submodel]

    def groups(self, submodels: Sequence[SubModel]) -> list[list[SubModel]]:
        """Part sub-models by what one pass serves, the deepest of each group first."""
        found: dict[object, list[SubModel]] = {}
        for submodel in submodels:
            shared = rest_of(submodel) if self.family.shares_depths else submodel
            found.setdefault(shared, []).append(submodel)
        return [sorted(group, key=_depth, reverse=True) for group in found.values()]

    def shared_pass(self, group: Sequence[SubModel], *, training: bool) -> SharedPass:
        """Make the pass that serves one of the `groups`, its modules in the mode asked for."""

        return self.family.shared_pass(group, partial(self._in_mode, training=training))

    def run(self, work: Callable[[], Result]) -> Result:
        """Do work that runs sub-models: at once, for all their tensors are at hand."""
        return work()

    def standalone(self, submodel: SubModel) -> nn.Module:
        """Return a contiguous copy of a sub-model that shares nothing, in eval mode."""
        views = self.at(submodel)
        copy = fresh_module(self.family, submodel)
        copy.load_state_dict({n: t.contiguous() for n, t in views.state_dict().items()})
        return copy.to(self.device).eval()

    def enable_training(self) -> None:
        """Allocate the root's gradient; must come before the first `at`.

        All of it lies in one buffer for each type, so that zeroing it and summing it over
        processes are one operation each.
        """
        if self._modules:
            raise RuntimeError("enable_training comes before the first sub-model is built")
        for dtype in dict.fromkeys(parameter.dtype for parameter in self.parameters.values()):
            own = {n: p for n, p in self.parameters.items() if p.dtype == dtype}
            places, size = {}, 0
            for name, parameter in own.items():
                places[name] = size
                size += -(-parameter.numel() // _ALIGNMENT) * _ALIGNMENT
            buffer = torch.zeros(size, dtype=dtype, device=self.device)
            self.gradient_buffers.append(buffer)
            for name, parameter in own.items():
                # A parameter is dense, whatever its memory format: its strides fit its size.
                gradient = buffer[places[name] :].as_strided(parameter.shape, parameter.stride())
                self.gradients[name] = parameter.grad = gradient

    def zero_gradients(self) -> None:
        for buffer in self.gradient_buffers:
            buffer.zero_()

    def expose_gradients(self, touched: Collection[str]) -> None:
        """Give the optimizer the gradients of `touched` parameters; it skips all others."""
        for name, parameter in self.parameters.items():
            parameter.grad = self.gradients[name] if name in touched else None

    def check_sharing(self, submodel: SubModel) -> None:
        """Assert that a sub-model still shares weights and gradients with the root.

        Cheap (pointers alone), and worth it: `zero_grad(set_to_none)`, `.to(device)` or
        re-typing a view parts it from the root without a word.
        """
        if submodel not in self._shared:
            self.at(submodel)
        for name, view, whole, gradient in self._shared[submodel]:
            assert view.data_ptr() == whole.data_ptr(), name
            assert view.grad is not None, name
            assert view.grad.data_ptr() == gradient.data_ptr(), name

    def _in_mode(self, submodel: SubModel, training: bool) -> nn.Module:
        module = self.at(submodel)
        return module if module.training == training else module.train(training)

    def _build(self, submodel: SubModel) -> nn.Module:
        module = build_skeleton(self.family, self.family.shrink(submodel))
        plan = self.plan(submodel)
        made: dict[int, nn.Parameter] = {}
        shared = self._shared[submodel] = []
        for name, piece in plan.slices.items():
            owner, leaf = owner_of(module, name)
            old = getattr(owner, leaf)
            view = self._tensors[piece.source].detach()[piece.index]
            if not isinstance(old, nn.Parameter):
                setattr(owner, leaf, view)
                continue
            if id(old) not in made:
                made[id(old)] = nn.Parameter(view, requires_grad=old.requires_grad)
                if piece.source in self.gradients:
                    gradient = self.gradients[piece.source]
                    made[id(old)].grad = gradient[piece.index]
                    whole = self._tensors[piece.source]
                    shared.append((name, made[id(old)], whole, gradient))
            setattr(owner, leaf, made[id(old)])
        self._fill_buffers(module, submodel, plan)
        if self.compiles:
            compile_blocks(self.family.compiled_parts(submodel, module))
        return module.train(self.module.training)

    def _fill_buffers(self, module: nn.Module, submodel: SubModel, plan: SlicePlan) -> None:
        """Give the sub-model its own statistics, and non-persistent buffers their values."""
        stored = self.statistics.get(submodel.name, {})
        for path, layer in module.named_modules():
            for leaf, buffer in layer.named_buffers(recurse=False):
                name = f"{path}.{leaf}" if path else leaf
                if name in stored:
                    setattr(layer, leaf, stored[name].to(self.device, copy=True))
                elif buffer.is_meta and name in plan.statistics:
                    setattr(layer, leaf, _fresh_statistic(leaf, buffer, self.device))
        if any(buffer.is_meta for buffer in module.buffers()):
            like = self.module
            if not self.family.shares_buffers:
                like = fresh_module(self.family, submodel)
            real = dict(like.named_buffers())
            for name, buffer in list(module.named_buffers()):
                if buffer.is_meta:
                    owner, leaf = owner_of(module, name)
                    setattr(owner, leaf, real[name].to(self.device))


def _depth(submodel: SubModel) -> float:
    return submodel.axes.get("depth", 0)


def fresh_module(family: Family, submodel: SubModel, seed: int = 0) -> nn.Module:
    """Build a sub-model with fresh weights; torch's random stream goes on as if nobody had."""
    config = family.shrink(submodel) if submodel.axes else family.root.config
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return family.build(config)


def init_network(family: Family, seed: int) -> nn.Module:
    """Build the root network with fresh weights, a function of the seed alone."""
    module = fresh_module(family, SubModel(()), seed)
    if not list(module.parameters()):
        raise RequestError(f"{family.loader} has no parameters to train")
    return module


def quiet_first_backward() -> None:
    """Filter the one warning that gradients laid out as views of a larger tensor cause."""
    warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout")


def owner_of(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds what `name` says, and its name there."""
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf


def _fresh_statistic(leaf: str, buffer: Tensor, device: torch.device) -> Tensor:
    fill = torch.ones_like if leaf == "running_var" else torch.zeros_like
    return fill(buffer, device=device)
