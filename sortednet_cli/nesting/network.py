"""The nested network: sub-models as ordinary modules that share one set of weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from sortednet_cli.errors import RequestError
from sortednet_cli.families import Family, SharedPass
from sortednet_cli.nesting.compiled import compile_blocks
from sortednet_cli.nesting.fusion import set_joined
from sortednet_cli.nesting.gradients import ParameterView, RootGradients
from sortednet_cli.nesting.plan import (
    Inspection,
    SlicePlan,
    own_norms,
    plan_between,
    plan_from_root,
    take_skeleton,
)
from sortednet_cli.nesting.skeleton import named_tensors, statistic_names, stored_tensors
from sortednet_cli.nesting.slices import Segments, TensorSlice
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.space.submodel import without_depth

Statistics = Mapping[str, Tensor]
"""Normalisation buffers of one sub-model, by name."""

Result = TypeVar("Result")


class NestedNetwork:
    """A root network and its sub-models, each a stock module over views of the root.

    `at(width=0.5, depth=8)` returns an `nn.Module` whose parameters are leading slices of
    the root's tensors: they share its storage. After `enable_training()` the `.grad` of each is
    the same slice of the root's gradient, so `backward()` on a sub-model accumulates into the
    root's gradient in place. Each module is built once and cached; two that have the same slice
    have the same parameter.

    Args:
        family: the model family of the root network.
        space: the sub-models.
        module: the root network with its weights, already on its device and in its memory
            format: moving it later would detach it from the views.
        statistics: normalisation statistics of the sub-models by name, if known.
        outer: the sub-model that `module` is, if it was itself cut from the root.
        compiles: whether to compile blocks for training.
    """

    sharded = False
    """Whether each process holds only some rows of every tensor."""

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
        self.inspect: Inspection | None = None
        """Sees the skeletons that become sub-models."""
        self._root_gradients: RootGradients | None = None
        self._in_place = True
        self._tensors = named_tensors(module)
        self.own_norms = self._make_own_norms()
        self._tensors |= self.own_norms
        self._modules: dict[SubModel, nn.Module] = {}
        self._views: dict[tuple[int, tuple[Segments, ...]], list[ParameterView]] = {}
        self._views_of: dict[SubModel, dict[str, ParameterView]] = {}
        self._plans: dict[SubModel, SlicePlan] = {}

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The root's parameters by name, tied ones once, and the norms of each width's own."""
        return dict(self.module.named_parameters()) | self.own_norms

    @property
    def weights(self) -> dict[str, Tensor]:
        """The tensors of the root that a run stores: all except normalisation statistics."""
        skip = set(statistic_names(self.module))
        stored = stored_tensors(self.module) | self.own_norms
        return {name: tensor.detach() for name, tensor in stored.items() if name not in skip}

    @property
    def device(self) -> torch.device:
        return next(iter(self._tensors.values())).device

    @property
    def local_weights(self) -> dict[str, Tensor]:
        """The part of each parameter that this process holds, tied ones once."""
        return {name: self.local(p.detach()) for name, p in self.parameters.items()}

    def local(self, tensor: Tensor) -> Tensor:
        """The part of a tensor like a parameter that this process holds."""
        return tensor

    @property
    def gradients(self) -> dict[str, Tensor]:
        """The gradient of each of the root's parameters; empty before `enable_training`."""
        if self._root_gradients is None:
            return {}
        if self._in_place:
            return self._root_gradients.slots
        return {name: self._root_gradients.of(name) for name in self.parameters}

    @property
    def adds_in_place(self) -> bool:
        """Whether backward passes add to the root's gradient by themselves."""
        return self._in_place and self._root_gradients is not None

    @property
    def gradient_buffers(self) -> list[Tensor]:
        """The flat buffers of the gradient, one for each dtype."""
        return [] if self._root_gradients is None else self._root_gradients.buffers

    @property
    def unsummed_gradients(self) -> list[Tensor]:
        """The local gradients that an update must still sum over all processes."""
        return self.gradient_buffers

    def at(self, submodel: SubModel | None = None, /, **axes: int | float) -> nn.Module:
        """Return a sub-model's module, the same object every time.

        It starts in the root's mode (train or eval); later changes of its mode persist.

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
        """Group sub-models that share one pass, the deepest of each group first."""
        groups: dict[object, list[SubModel]] = {}
        for submodel in submodels:
            key = without_depth(submodel) if self.family.shares_depths else submodel
            groups.setdefault(key, []).append(submodel)
        return [sorted(group, key=_depth, reverse=True) for group in groups.values()]

    def shared_pass(self, group: Sequence[SubModel], *, training: bool) -> SharedPass:
        """Make the pass that serves one of the `groups`, in training or evaluation mode."""
        return self.family.shared_pass(group, partial(self._in_mode, training=training))

    def run(self, work: Callable[[], Result]) -> Result:
        """Call `work`, which runs sub-models; a sharded network gathers its tensors first."""
        return work()

    def standalone(self, submodel: SubModel) -> nn.Module:
        """Return a contiguous copy of a sub-model with weights of its own, in eval mode."""
        own = self.at(submodel).state_dict()
        plan, copy = self.plan(submodel), fresh_module(self.family, submodel)
        slices = {n: piece.of(self._tensors[piece.source]) for n, piece in plan.slices.items()}
        tensors = slices | {name: own[name] for name in plan.statistics}
        copy.load_state_dict({name: tensor.contiguous() for name, tensor in tensors.items()})
        return copy.to(self.device).eval()

    def enable_training(self, *, in_place: bool = True) -> None:
        """Allocate the root's gradient. Must be called before the first `at`.

        Args:
            in_place: whether backward passes add to the root's gradient by themselves: all
                gradients of one dtype then lie in one buffer, which one operation zeroes or sums
                over processes. Without it, passes must run inside `collecting`, which costs less
                memory traffic.
        """
        if self._modules:
            raise RuntimeError("call enable_training before the first sub-model is built")
        self._root_gradients = RootGradients(self.parameters)
        self._in_place = in_place
        self.zero_gradients()

    def zero_gradients(self) -> None:
        gradients = self._root_gradients
        assert gradients is not None
        gradients.zero()
        if self._in_place:
            for buffer in gradients.buffers:
                buffer.zero_()
        for name, parameter in self.parameters.items():
            parameter.grad = gradients.slots[name] if self._in_place else None

    @contextmanager
    def collecting(self, group: Sequence[SubModel]) -> Iterator[None]:
        """Add the gradients of the backward passes inside, all of one group, to the root's."""
        if self._in_place or self._root_gradients is None:
            yield
            return
        views = list({view: None for s in group for view in self._parameter_views(s).values()})
        for view in views:
            view.parameter.grad = None
        yield
        self._root_gradients.take(views)

    def expose_gradients(self, touched: Collection[str]) -> None:
        """Set `.grad` of `touched` parameters and clear it elsewhere: the optimizer skips those."""
        gradients = self._root_gradients
        assert gradients is not None
        of = gradients.slots.__getitem__ if self._in_place else gradients.of
        for name, parameter in self.parameters.items():
            parameter.grad = of(name) if name in touched else None

    def check_sharing(self, submodel: SubModel) -> None:
        """Assert that a sub-model still shares weights and gradients with the root.

        `zero_grad(set_to_none)`, `.to(device)` or a change of dtype silently detaches a view from
        the root. Comparing pointers is cheap enough to do it at every update.
        """
        slots = self._root_gradients.slots if self._root_gradients and self._in_place else {}
        for name, view in self._parameter_views(submodel).items():
            assert view.parameter.data_ptr() == view.root.data_ptr() + view.offset, name
            if view.source in slots:
                assert view.parameter.grad is not None, name
                start = slots[view.source].data_ptr() + view.offset
                assert view.parameter.grad.data_ptr() == start, name

    def _make_own_norms(self) -> dict[str, nn.Parameter]:
        """Make the norms that some widths have for themselves, from slices of the shared ones."""
        pieces = {} if self.outer else own_norms(self.family).vectors
        return {
            name: nn.Parameter(piece.of(self._tensors[piece.source].detach()).clone())
            for name, piece in pieces.items()
        }

    @torch.no_grad()
    def start_own_norms(self) -> None:
        """Set the norms of each width's own to what the shared ones hold now."""
        for name, piece in own_norms(self.family).vectors.items():
            self.own_norms[name].copy_(piece.of(self._tensors[piece.source]))

    @torch.no_grad()
    def load(self, stored: Mapping[str, Tensor]) -> None:
        """Copy `weights` of a stored network into this one."""
        of_root = {name: tensor for name, tensor in stored.items() if name not in self.own_norms}
        self.module.load_state_dict(of_root, strict=False)
        for name, vector in self.own_norms.items():
            vector.copy_(stored[name])

    def _parameter_views(self, submodel: SubModel) -> dict[str, ParameterView]:
        """The parameters of a sub-model by name, tied ones once."""
        self.at(submodel)
        return self._views_of[submodel]

    def _in_mode(self, submodel: SubModel, training: bool) -> nn.Module:
        module = self.at(submodel)
        return module if module.training == training else module.train(training)

    def _build(self, submodel: SubModel) -> nn.Module:
        plan = self.plan(submodel)
        module = take_skeleton(self.family, submodel, self.inspect)
        views: dict[ParameterView, str] = {}
        for name, piece in plan.slices.items():
            owner, leaf = owner_of(module, name)
            bare, tensor = getattr(owner, leaf), self._tensors[piece.source]
            if not isinstance(bare, nn.Parameter):
                setattr(owner, leaf, piece.of(tensor.detach()))
                continue
            found = self._views_of_piece(piece, requires_grad=bare.requires_grad)
            for view in found:
                views.setdefault(view, f"{name}#{view.number}" if view.number else name)
            if piece.fused:
                set_joined(owner, leaf, piece, [view.parameter for view in found])
            else:
                setattr(owner, leaf, found[0].parameter)
        self._views_of[submodel] = {name: view for view, name in views.items()}
        self._fill_buffers(module, submodel, plan)
        if self.compiles:
            compile_blocks(self.family.compiled_parts(submodel, module))
        return module.train(self.module.training)

    def _views_of_piece(self, piece: TensorSlice, requires_grad: bool) -> list[ParameterView]:
        """Make parameters of the views of a slice, or return those that were made."""
        root = self._tensors[piece.source]
        key = (id(root), piece.segments)
        if key not in self._views:
            assert isinstance(root, nn.Parameter)
            name = next(name for name, other in self.parameters.items() if other is root)
            parameters = [nn.Parameter(view, requires_grad) for view in piece.views(root.detach())]
            self._views[key] = [
                ParameterView(name, root, parameter, piece, number)
                for number, parameter in enumerate(parameters)
            ]
            if self._root_gradients is not None and self._in_place:
                for view in self._views[key]:
                    view.parameter.grad = view.of(self._root_gradients.slots[name])
        return self._views[key]

    def _fill_buffers(self, module: nn.Module, submodel: SubModel, plan: SlicePlan) -> None:
        """Set the sub-model's normalisation statistics and its non-persistent buffers."""
        stored = self.statistics.get(submodel.name, {})
        for path, layer in module.named_modules():
            for leaf, buffer in layer.named_buffers(recurse=False):
                name = f"{path}.{leaf}" if path else leaf
                if name in stored:
                    setattr(layer, leaf, stored[name].to(self.device, copy=True))
                elif buffer.is_meta and name in plan.statistics:
                    setattr(layer, leaf, _fresh_statistic(leaf, buffer, self.device))
        if any(buffer.is_meta for buffer in module.buffers()):
            source = self.module
            if not self.family.shares_buffers:
                source = fresh_module(self.family, submodel)
            values = dict(source.named_buffers())
            for name, buffer in list(module.named_buffers()):
                if buffer.is_meta:
                    owner, leaf = owner_of(module, name)
                    setattr(owner, leaf, values[name].to(self.device))


def _depth(submodel: SubModel) -> float:
    return submodel.axes.get("depth", 0)


def fresh_module(family: Family, submodel: SubModel, seed: int = 0) -> nn.Module:
    """Build a sub-model with fresh weights; torch's random state is left unchanged."""
    config = family.shrink(submodel) if submodel.axes else family.root.config
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return family.build(config)


def init_network(family: Family, seed: int) -> nn.Module:
    """Build the root network with fresh weights, which depend only on the seed."""
    module = fresh_module(family, SubModel(()), seed)
    if not list(module.parameters()):
        raise RequestError(f"{family.loader} has no parameters to train")
    return module


def ignore_layout_warning() -> None:
    """Ignore the warning that torch gives for gradients that are views of a larger tensor."""
    warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout")


def owner_of(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Return the module that owns the tensor or module `name`, and its name there."""
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf


def _fresh_statistic(leaf: str, buffer: Tensor, device: torch.device) -> Tensor:
    fill = torch.ones if leaf == "running_var" else torch.zeros
    return fill(buffer.shape, dtype=buffer.dtype, device=device)
