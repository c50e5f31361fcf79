"""Fused tensors that a custom model does not declare, found by their shapes.

A leading slice of one passes every check of shapes, and mixes its parts: the first rows of query,
key and value are rows of the query and of some keys.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from torch import nn

from sortednet_cli.errors import RequestError
from sortednet_cli.families import Family
from sortednet_cli.families.fused import Fused, declared_fused, fused_as
from sortednet_cli.nesting.skeleton import build_skeleton, shapes_of
from sortednet_cli.space import SearchSpace

_MOST_PARTS = 8

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class _Network:
    """Shapes of a network's tensors: at full size, and of the narrowest with all its blocks."""

    module: nn.Module
    full: Shapes
    narrow: Shapes


def check_fused(family: Family, space: SearchSpace) -> None:
    """Check that every tensor that looks fused is declared.

    Raises:
        RequestError: one is not, or a declaration matches no tensor.
    """
    network = _read(family, space)
    for pattern, fused in declared_fused(family.root.declaration).items():
        if not any(fused_as(name, {pattern: fused}) for name in network.full):
            raise RequestError(f"model.fused: {pattern!r} matches no tensor and no module")
    found = [
        *_of_two_sizes(network, family.fused),
        *_grouped(network),
        *_biases(network, family.fused),
    ]
    for name, reason, fused in found:
        if fused_as(name, family.fused) is None:
            pattern, parts = _pattern(name, network.full), fused.parts
            count: int | list[int] = len(parts) if len({*parts}) == 1 else [*parts]
            value = f"{{ parts = {count}, dim = {fused.dim} }}" if fused.dim else count
            raise RequestError(
                f"{name} {list(network.full[name])} looks fused: {reason}. An axis would cut across"
                f" its parts. Declare them in [model.fused], such as {pattern!r} = {value}; if"
                f" it is one tensor, {pattern!r} = 1"
            )


def _read(family: Family, space: SearchSpace) -> _Network:
    module = build_skeleton(family, family.root.config)
    narrow = build_skeleton(family, family.shrink(space.narrowest))
    return _Network(module, shapes_of(module), shapes_of(narrow))


def _of_two_sizes(
    network: _Network, declared: Mapping[str, Fused]
) -> Iterator[tuple[str, str, Fused]]:
    """Find tensors with a size that no other layer has, though one beside it has a part of it.

    Layers agree in the channels between them: what one makes and none takes whole is split.
    """
    holders: dict[int, set[str]] = {}
    for name, shape in network.full.items():
        for dim, size in enumerate(shape if len(shape) > 1 else ()):
            fused = fused_as(name, declared)
            parts = fused.sizes(name, size) if fused and fused.dim == dim else ()
            for held in {size, *parts}:
                holders.setdefault(held, set()).add(_kind(name))
    for name, shape in network.full.items():
        for dim, size in enumerate(shape if len(shape) > 1 else ()):
            if holders[size] == {_kind(name)} and (found := _part_of(network, name, dim)):
                beside, ratio = found
                part = int(size / ratio)
                reason = f"{beside} beside it has {part}, and nothing has {size}"
                yield name, reason, Fused((1,) * ratio.numerator, dim)


def _part_of(network: _Network, name: str, dim: int) -> tuple[str, Fraction] | None:
    """Find a weight beside a tensor with a part of its size at every width, the largest part."""
    path = name.rpartition(".")[0]
    for block in (path, path.rpartition(".")[0]):
        ratios: dict[Fraction, str] = {}
        for other, shape in network.full.items():
            if other.startswith(f"{block}." if block else "") and _kind(other) != _kind(name):
                for part in range(len(shape) if len(shape) > 1 else 0):
                    if ratio := _ratio(network, (name, dim), (other, part)):
                        ratios.setdefault(ratio, other)
        if ratios:
            return ratios[min(ratios)], min(ratios)
    return None


def _ratio(network: _Network, whole: tuple[str, int], part: tuple[str, int]) -> Fraction | None:
    """How often a dimension holds another, if that is the same number at every width."""
    if not {whole[0], part[0]} <= network.narrow.keys():
        return None
    full, narrow = (
        Fraction(shapes[whole[0]][whole[1]], shapes[part[0]][part[1]])
        for shapes in (network.full, network.narrow)
    )
    shrinks = network.narrow[part[0]][part[1]] < network.full[part[0]][part[1]]
    return full if shrinks and full == narrow and 1 < full <= _MOST_PARTS else None


def _grouped(network: _Network) -> Iterator[tuple[str, str, Fused]]:
    """Find convolutions whose groups get narrower instead of fewer."""
    for path, layer in network.module.named_modules():
        name = f"{path}.weight"
        groups = getattr(layer, "groups", 1)
        if not isinstance(layer, nn.modules.conv._ConvNd) or groups == 1:
            continue
        if name in network.narrow and network.narrow[name][1] < network.full[name][1]:
            yield name, f"it has {groups} groups, each of which gets narrower", Fused((1,) * groups)


def _biases(network: _Network, declared: Mapping[str, Fused]) -> Iterator[tuple[str, str, Fused]]:
    """Find biases whose weights are fused along the dimension that both have."""
    for name, shape in network.full.items():
        bias, fused = _bias_of(name), fused_as(name, declared)
        if fused is None or len(fused.parts) == 1 or bias not in network.full:
            continue
        if network.full[bias] == shape[fused.dim : fused.dim + 1]:
            yield bias, f"{name} is", Fused(fused.parts)


def _bias_of(weight: str) -> str:
    """The name of the bias beside a weight: `fc.bias`, or `in_proj_bias`."""
    return f"{weight.removesuffix('weight')}bias"


def _pattern(name: str, names: Collection[str]) -> str:
    """A pattern that matches a tensor in every block, and a weight's bias with it."""
    stem = name.removesuffix("weight")
    if not stem or _bias_of(name) not in names:
        return _kind(name)
    return _kind(stem[:-1]) if stem.endswith(".") else f"{_kind(stem)}*"


def _kind(name: str) -> str:
    """The name without the numbers of modules: that of the same tensor in other blocks."""
    first, *others = name.split(".")
    return ".".join([first, *("*" if part.isdigit() else part for part in others)])
