"""How a factory's model shrinks, found by building it with smaller arguments on the meta device."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from sortednet_cli.data import ImageFormat
from sortednet_cli.engine.drafting.model import Found
from sortednet_cli.engine.sources.root import open_root
from sortednet_cli.errors import RequestError, listed
from sortednet_cli.families import Family, root_of
from sortednet_cli.families.custom import import_factory
from sortednet_cli.nesting import build_skeleton, plan_from_root
from sortednet_cli.space import SubModel
from sortednet_cli.spec import ModelSpec

_FROM_DATA = {
    "num_classes": ("num_classes", "n_classes", "classes", "num_labels"),
    "channels": ("in_channels", "in_chans", "in_ch", "channels_in", "num_channels"),
    "image_size": ("image_size", "img_size", "resolution"),
}
"""Names that factories use for what follows from the data."""

_LEAST_CHANNELS = 8
"""A smaller argument counts no channels: it is a factor, such as an expansion of 4."""

Shapes = Mapping[str, tuple[int, ...]]


def declare(found: Found, inputs: ImageFormat, allowed: Collection[str]) -> Found:
    """Add to a factory's model the arguments and the axes that trials find.

    Raises:
        RequestError: the factory needs arguments that nobody knows, cannot be built, or no
            argument makes its network smaller; the message says how to declare one that does.
    """
    return _Trials(found, inputs, allowed).declared()


class _Trials:
    """Builds a factory's network with other arguments, and compares its tensors."""

    def __init__(self, found: Found, inputs: ImageFormat, allowed: Collection[str]) -> None:
        self._found, self._inputs, self._allowed = found, inputs, allowed
        self._factory = str(found.table["factory"])
        self._parameters = _parameters(import_factory(self._factory))
        given = {name: key for key, names in _FROM_DATA.items() for name in names}
        known = {n: getattr(inputs, given[n]) for n in self._parameters if n in given}
        needed = [n for n, value in self._parameters.items() if value is _NONE and n not in known]
        if needed:
            raise RequestError(
                f"{self._factory} needs the arguments {listed(needed)}, which nobody knows: give"
                f" them defaults. {self._told()}"
            )
        self._given = known
        self._sizes = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self._parameters.items()
            if name not in known and _is_size(value)
        }

    def declared(self) -> Found:
        root = self._built(self._sizes) if self._sizes else nn.Identity()
        width = self._width(root)
        depth, blocks = self._depth(root, width)
        axes: dict[str, Any] = {"width": {"scales": width}} if width else {}
        if depth is not None:
            verb = "stages" if isinstance(self._sizes[depth], list) else "sets"
            axes["depth"] = {verb: depth}
        if not axes:
            raise RequestError(
                f"{self._factory}: no argument makes its network narrower or shallower."
                f" {self._told()}"
            )
        used = {name: self._sizes[name] for name in self._sizes if name in {*width, depth}}
        table = {**self._found.table, "config": {**used, **self._given}, "axes": axes}
        return replace(self._found, table=table | ({"blocks": blocks} if blocks else {}))

    def _told(self) -> str:
        arguments = (n if v is _NONE else f"{n}={v!r}" for n, v in self._parameters.items())
        return (
            f"Its arguments are {listed(arguments) or 'none'}. Declare in a spec what makes it"
            ' smaller: [model.axes] width = { scales = ["ARGUMENT"] }, depth = { sets = "ARGUMENT"'
            ' }, and [model.blocks] paths = ["MODULE"]'
        )

    def _family(self, sizes: Mapping[str, Any], scales: Sequence[str] = ()) -> Family:
        """Open the factory with given sizes; RequestError if its network does not run."""
        axes = {"width": {"scales": list(scales or sizes)}}
        table = {"family": "custom", "factory": self._factory, "axes": axes}
        model = ModelSpec.model_validate({**table, "config": {**sizes, **self._given}})
        root = root_of(model, "classification", self._inputs.facts())
        allowed = (*self._allowed, self._factory)
        return open_root(root, allowed, self._inputs, where=self._factory)

    def _built(self, sizes: Mapping[str, Any]) -> nn.Module:
        family = self._family(sizes)
        return build_skeleton(family, family.root.config)

    def _width(self, root: nn.Module) -> list[str]:
        """List the arguments that together make layers narrower and change nothing else."""
        chosen: list[str] = []
        silent: list[str] = []  # numbers of heads change no shape, but a head keeps its size
        saved = 0
        for name, value in self._sizes.items():
            halved = self._halved([*chosen, name], root)
            if halved == saved and "head" in name:
                silent.append(name)
            elif halved is not None and halved > saved and _most(value) >= _LEAST_CHANNELS:
                chosen, saved = [*chosen, name], halved
        if chosen and silent and self._halved([*chosen, *silent], root):
            chosen += silent
        return chosen

    def _halved(self, names: Sequence[str], root: nn.Module) -> int | None:
        """Count the values that halving arguments saves; None if it does more than cut channels."""
        own = _shapes(root)
        with suppress(RequestError):
            family = self._family(self._sizes, names)
            half = SubModel.of({"width": 0.5})
            plan_from_root(family, half)
            shapes = _shapes(self._built({**self._sizes, **family.shrink(half)}))
            kernels = [f"{p}.weight" for p, m in root.named_modules() if isinstance(m, _ConvNd)]
            if shapes.keys() == own.keys() and all(shapes[n][2:] == own[n][2:] for n in kernels):
                return _size(own) - _size(shapes)
        return None

    def _depth(self, root: nn.Module, width: Collection[str]) -> tuple[str | None, dict[str, Any]]:
        """Find the argument that counts blocks, and the containers that hold them."""
        for name, value in self._sizes.items():
            fewer = [v - 1 for v in value] if isinstance(value, list) else value - 1
            with suppress(RequestError):
                shallow = root if name in width else self._built({**self._sizes, name: fewer})
                lost = len(_shapes(root)) - len(_shapes(shallow))
                if lost > 0 and (blocks := _containers(root, shallow, value)):
                    return name, blocks
        return None, {}


_NONE = inspect.Parameter.empty


def _parameters(factory: Callable[..., object]) -> dict[str, Any]:
    """Return the named arguments of a factory with their defaults."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    try:
        found = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError) as error:
        raise RequestError(f"this factory's arguments cannot be read: {error}") from error
    return {p.name: p.default for p in found if p.kind in kinds}


def _is_size(value: object) -> bool:
    """Whether a default is a whole number above 1, or a list of whole numbers."""
    if isinstance(value, list | tuple):
        return bool(value) and all(type(item) is int and item > 0 for item in value)
    return type(value) is int and value > 1


def _most(value: int | list[int]) -> int:
    return max(value) if isinstance(value, list) else value


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def _size(shapes: Shapes) -> int:
    return sum(torch.Size(shape).numel() for shape in shapes.values())


def _containers(root: nn.Module, shallow: nn.Module, count: int | list[int]) -> dict[str, Any]:
    """Find the containers that lost a block each: `model.blocks`; empty if they are not found."""
    counts = count if isinstance(count, list) else [count]
    smaller = dict(shallow.named_modules())
    paths: list[str] = []
    before: list[int] = []
    after: list[int] = []
    for path, module in root.named_modules():
        held, left = list(module.children()), list(smaller.get(path, module).children())
        if not isinstance(module, nn.ModuleList | nn.Sequential) or len(held) != len(left) + 1:
            continue
        if len(paths) == len(counts):
            return {}
        forms = [_form(child) for child in held]
        block = Counter(forms).most_common(1)[0][0]
        extra = len(held) - counts[len(paths)]
        first = next(i for i, form in enumerate(forms) if form == block) if extra else 0
        if extra < first:
            return {}
        paths.append(path)
        before.append(first)
        after.append(extra - first)
    if len(paths) != len(counts):
        return {}
    others = {key: each for key, each in (("before", before), ("after", after)) if any(each)}
    return {"paths": paths, **others}


def _form(module: nn.Module) -> str:
    return str(sorted(_shapes(module).items())) + type(module).__name__
