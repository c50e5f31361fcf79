"""The slice plan: which slice of a larger network each tensor of a sub-model is.

A plan holds only names and shapes. The same plan makes the views for training, selects the bytes
for extraction, and composes with the plan of a further cut.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import accumulate
from weakref import WeakKeyDictionary

from torch import nn

from sortednet_cli.errors import RequestError
from sortednet_cli.families import Family
from sortednet_cli.families.fused import Fused, fused_as
from sortednet_cli.nesting.norms import OwnNorms, find_own_norms, norm_vectors
from sortednet_cli.nesting.skeleton import (
    build_skeleton,
    named_tensors,
    shapes_of,
    statistic_names,
)
from sortednet_cli.nesting.slices import TensorSlice, merged
from sortednet_cli.space import SearchSpace, SubModel

Inspection = Callable[[SubModel, nn.Module], bool]
"""Sees a sub-model's skeleton, and returns whether it is as it was."""


@dataclass(frozen=True)
class SlicePlan:
    """Maps every tensor of a sub-model to its slice of the larger network.

    `statistics` names the tensors that are not slices: each sub-model has its own.
    """

    slices: Mapping[str, TensorSlice]
    statistics: tuple[str, ...]

    @cached_property
    def sources(self) -> frozenset[str]:
        """Tensors of the larger network that the sub-model uses."""
        return frozenset(piece.source for piece in self.slices.values())

    @property
    def digest(self) -> str:
        """A short hash of the plan, the same on every machine."""
        table = {}
        for name, piece in self.slices.items():
            source, shape, *segments = piece.described()
            table[name] = [source, *shape, *segments]
        text = json.dumps([table, sorted(self.statistics)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def then(self, inner: SlicePlan) -> SlicePlan:
        """Compose two plans: if this one cuts B out of A and `inner` C out of B, cut C out of A."""
        slices = {
            name: self.slices[piece.source].then(piece) for name, piece in inner.slices.items()
        }
        return SlicePlan(slices, inner.statistics)

    def __str__(self) -> str:
        width = max(map(len, self.slices), default=0)
        rows = [f"{name:<{width}} <- {piece}" for name, piece in self.slices.items()]
        return "\n".join(rows + [f"{name:<{width}} <- (its own)" for name in self.statistics])


def plan_from_root(family: Family, submodel: SubModel) -> SlicePlan:
    """Plan a sub-model as slices of the root network.

    Raises:
        RequestError: a value is illegal for the family, or a tensor has no source in the root
            (in a custom family, if the declared blocks are not those of the module).
    """
    return _planned(family, submodel).plan


def spare_skeleton(family: Family, submodel: SubModel) -> nn.Module | None:
    """Return the skeleton that a sub-model's plan was read from, unless a network has taken it."""
    read = _read.get(family)
    planned = read.submodels.get(submodel) if read else None
    return planned.skeleton if planned else None


def take_skeleton(
    family: Family, submodel: SubModel, inspect: Inspection | None = None
) -> nn.Module:
    """Return a sub-model's skeleton for the caller to change: the spare one, or a new one.

    Args:
        inspect: sees the spare one before that; a new one is built if it has changed it.
    """
    skeleton = spare_skeleton(family, submodel)
    if skeleton is not None:
        _read[family].submodels[submodel].skeleton = None
        if inspect is None or inspect(submodel, skeleton):
            return skeleton
    return build_skeleton(family, family.shrink(submodel))


def plan_between(family: Family, outer: SubModel, inner: SubModel) -> SlicePlan:
    """Plan `inner` as slices of the standalone network of `outer`.

    Raises:
        RequestError: `inner` is not nested in `outer`.
    """
    to_outer, to_inner = plan_from_root(family, outer), plan_from_root(family, inner)
    name_in_outer = {piece.source: name for name, piece in to_outer.slices.items()}
    slices = {}
    for name, piece in to_inner.slices.items():
        holder = name_in_outer.get(piece.source)
        held = piece.within(to_outer.slices[holder], holder) if holder is not None else None
        if held is None:
            raise RequestError(f"{inner} is not nested in {outer}: {name} does not fit into it")
        slices[name] = held
    return SlicePlan(slices, to_inner.statistics)


@dataclass
class _Planned:
    """A plan, and the skeleton that it was read from, until a network takes that."""

    plan: SlicePlan
    skeleton: nn.Module | None


@dataclass(frozen=True)
class _Read:
    """What was read from the skeletons of one family: the root's shapes, norms and plans."""

    root_shapes: Mapping[str, tuple[int, ...]]
    own_norms: OwnNorms
    submodels: dict[SubModel, _Planned] = field(default_factory=dict)


_MOST_KEPT = 512
"""Most plans kept of one family. The skeleton of 150 tensors takes 0.3 MB, its plan 0.05 MB."""

_read: WeakKeyDictionary[Family, _Read] = WeakKeyDictionary()


def _planned(family: Family, submodel: SubModel) -> _Planned:
    """Plan a sub-model, unless that was done earlier."""
    read = _read_root(family)
    if submodel in read.submodels:
        return read.submodels[submodel]
    skeleton = build_skeleton(family, family.shrink(submodel))
    plan = _plan(skeleton, family.module_map(submodel), read.root_shapes, family.fused)
    slices = read.own_norms.put_into(plan.slices, submodel)
    planned = _Planned(SlicePlan(slices, plan.statistics), skeleton)
    if len(read.submodels) < _MOST_KEPT:
        read.submodels[submodel] = planned
    return planned


def _read_root(family: Family) -> _Read:
    if family in _read:
        return _read[family]
    shapes = shapes_of(build_skeleton(family, family.root.config))

    @cache
    def norms(submodel: SubModel) -> Mapping[str, TensorSlice]:
        skeleton = build_skeleton(family, family.shrink(submodel))
        slices = _plan(skeleton, family.module_map(submodel), shapes, family.fused).slices
        found = [slices[name] for name in norm_vectors(skeleton)]
        return {piece.source: piece for piece in found}

    _read[family] = _Read(shapes, find_own_norms(family.root.own_norms, norms))
    return _read[family]


def _plan(
    skeleton: nn.Module,
    paths: Mapping[str, str | None],
    sources: Mapping[str, tuple[int, ...]],
    fused: Mapping[str, Fused],
) -> SlicePlan:
    for path in paths:
        _require_module(skeleton, path)
    statistics = dict.fromkeys(statistic_names(skeleton))
    slices = {}
    for name, tensor in named_tensors(skeleton).items():
        if name in statistics:
            continue
        source, shape = _renamed(name, paths), tuple(tensor.shape)
        if source not in sources:
            text = f" ({source})" if source != name else ""
            raise RequestError(f"a sub-model has {name}{text}, which the full network lacks")
        if not all(shape):
            raise RequestError(f"a sub-model would have no elements in {name} {shape}")
        if not _fits(shape, sources[source]):
            raise RequestError(f"{name} {shape} does not fit into {source} {sources[source]}")
        slices[name] = _cut(source, shape, sources[source], fused)
    return SlicePlan(slices, tuple(statistics))


def _cut(
    source: str, shape: tuple[int, ...], full: tuple[int, ...], declared: Mapping[str, Fused]
) -> TensorSlice:
    """Slice a tensor: every part of a fused one, else its leading entries."""
    piece, fused = TensorSlice.leading(source, shape), fused_as(source, declared)
    if fused is None or not shape:
        return piece
    dim = min(fused.dim, len(shape) - 1)
    starts = accumulate(fused.sizes(source, full[dim]), initial=0)
    sizes = fused.sizes(source, shape[dim])
    parts = merged((start, start + size) for start, size in zip(starts, sizes, strict=False))
    segments = (*piece.segments[:dim], parts, *piece.segments[dim + 1 :])
    return TensorSlice(source, segments)


def own_norms(family: Family) -> OwnNorms:
    """Find the affine vectors of norms that some widths of a family have for themselves."""
    return _read_root(family).own_norms


def check_space(family: Family, space: SearchSpace) -> None:
    """Plan every sub-model and check that no two are the same network.

    Raises:
        RequestError: a value is illegal for the family, two points are the same network, or widths
            shall have norms of their own and no axis scales any.
    """
    if family.root.own_norms and not own_norms(family).vectors:
        raise RequestError(
            f"model.norms: no axis of the space scales a norm of {family.root.family}, so that"
            " 'by-width' would change nothing: take 'shared'"
        )
    seen: dict[frozenset[tuple[str, tuple[int, ...]]], SubModel] = {}
    for submodel in space.submodels:
        plan = plan_from_root(family, submodel)
        key = frozenset((name, piece.shape) for name, piece in plan.slices.items())
        if key in seen:
            raise RequestError(
                f"space: {seen[key]} and {submodel} give the same network;"
                " choose values further apart"
            )
        seen[key] = submodel


def _require_module(skeleton: nn.Module, path: str) -> None:
    try:
        skeleton.get_submodule(path)
    except AttributeError as error:
        raise RequestError(
            f"model.blocks: the model has no module {path!r}{_held(skeleton, path)}"
        ) from error


def _held(skeleton: nn.Module, path: str) -> str:
    """Say how many modules the container of a missing one holds, if there is a container."""
    container = dict(skeleton.named_modules()).get(path.rpartition(".")[0])
    if container is None or not path.rpartition(".")[0]:
        return ""
    held = len(list(container.children()))
    return (
        f": this container holds {held} {'module' if held == 1 else 'modules'}; `before` and"
        " `after` hold for every container, a list such as [0, 1] for each"
    )


def _renamed(name: str, paths: Mapping[str, str | None]) -> str:
    """Replace the longest prefix of `name` that is a mapped module path."""
    parts = name.split(".")
    for size in range(len(parts) - 1, -1, -1):
        prefix = ".".join(parts[:size])
        if prefix in paths:
            target = paths[prefix]
            if target is None:
                raise RequestError(
                    f"model.blocks: {'.'.join(parts[: size + 1])!r} is no block of {prefix!r}:"
                    " count the modules that are none in `before` and `after`"
                )
            return ".".join(part for part in (target, *parts[size:]) if part)
    raise RequestError(f"the plan has no rule for {name}: the family's module map omits it")


def _fits(shape: tuple[int, ...], bounds: tuple[int, ...]) -> bool:
    return len(shape) == len(bounds) and all(
        size <= bound for size, bound in zip(shape, bounds, strict=True)
    )
