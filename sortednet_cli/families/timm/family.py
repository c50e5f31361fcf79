"""The family of timm's networks."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from sortednet_cli.errors import RequestError, install_line, listed, suggestion
from sortednet_cli.families.base import StagedFamily, width_of
from sortednet_cli.families.fused import Fused, declared_fused
from sortednet_cli.families.root import Config, Root, entry, scaled
from sortednet_cli.families.shared import Step
from sortednet_cli.families.timm.architectures import ARCHITECTURES, TimmArchitecture
from sortednet_cli.space import SubModel
from sortednet_cli.spec import ModelSpec

_GIVEN = ("num_classes", "in_chans")
"""Arguments that follow from the data."""


class TimmFamily(StagedFamily):
    """A network that `timm.create_model` makes, shrunk by arguments of its class.

    Configurations have the form of timm's own `config.json`: `architecture`, `num_classes` and
    `model_args`.
    """

    library = "timm"
    hub_card = 'timm.create_model("hf-hub:user/name", pretrained=True)'
    card = 'import timm\n\nmodel = timm.create_model("local-dir:.", pretrained=True).eval()\n'
    refusals = (*StagedFamily.refusals, AssertionError, AttributeError, KeyError)
    declares_fused = False  # a model of a declared class may still have other layers

    def __init__(self, root: Root) -> None:
        name = entry(root.config, "architecture", str)
        arguments = entry(root.config, "model_args", dict)
        made = _inspected(name)
        _check_arguments(made, arguments)
        self.architecture = made.architecture
        self.loader = f"timm.create_model({name!r})"
        self._arguments = {**made.arguments, **arguments}
        super().__init__(root)

    @classmethod
    def complete_config(
        cls,
        model: ModelSpec,
        task: str,
        facts: Mapping[str, Any],
        stock: Mapping[str, Any] | None = None,
    ) -> Config:
        assert model.name is not None  # the spec has been checked
        made = _inspected(model.name)
        if given := sorted({*_GIVEN} & model.config.keys()):
            raise RequestError(f"model.config.{given[0]}: it follows from the data, leave it out")
        size = {"img_size": facts["image_size"]} if "img_size" in made.parameters else {}
        return {
            "architecture": model.name,
            "num_classes": facts["num_classes"],
            "model_args": {"in_chans": facts["channels"], **size, **model.config},
            "pretrained_cfg": {
                "num_classes": facts["num_classes"],
                "input_size": [facts["channels"], facts["image_size"], facts["image_size"]],
                "mean": list(facts["mean"]),
                "std": list(facts["std"]),
                "label_names": list(facts["classes"]),
            },
        }

    @property
    def fused(self) -> Mapping[str, Fused]:
        return {**self.architecture.fused, **declared_fused(self.root.declaration)}

    @property
    def stages(self) -> Sequence[int]:
        if self.architecture.depth is None:
            return [1]
        value = self._arguments[self.architecture.depth]
        return [value] if isinstance(value, int) else list(value)

    @property
    def max_depth(self) -> int:
        return 0 if self.architecture.depth is None else sum(self.stages)

    def construct(self, config: Config) -> nn.Module:
        arguments = {"num_classes": config["num_classes"], **config["model_args"]}
        return _create(config["architecture"], arguments)

    def shrink(self, submodel: SubModel) -> Config:
        changed = {}
        if (width := width_of(submodel)) != 1:
            changed = {name: self._scaled(name, width) for name in self.architecture.widths}
        if "depth" in submodel.axes:
            if self.architecture.depth is None:
                raise RequestError(f"{self.loader} has no depth axis: {self.architecture.no_depth}")
            kept = list(self.kept(submodel))
            is_number = isinstance(self._arguments[self.architecture.depth], int)
            changed[self.architecture.depth] = kept[0] if is_number else kept
        config = self.root.config
        return {**config, "model_args": {**config["model_args"], **changed}}

    def module_map(self, submodel: SubModel) -> dict[str, str | None]:
        mapping: dict[str, str | None] = {"": ""}
        for container, blocks in self._blocks(submodel):
            mapping[container] = None
            mapping |= {path: path for path in blocks}
        return mapping

    def steps(self, submodel: SubModel, module: nn.Module) -> list[Step]:
        if self.architecture.depth is None:
            return [Step("forward_features", (_Call(module, "forward_features"),))]
        steps = [Step("stem", tuple(_part(module, path) for path in self.architecture.stem))]
        for stage, (_, blocks) in enumerate(self._blocks(submodel), self.architecture.first_stage):
            before = [path.format(stage) for path in self.architecture.before]
            steps += [Step(path, (module.get_submodule(path),)) for path in (*before, *blocks)]
        return steps

    def tail(self, module: nn.Module, states: Tensor) -> Tensor:
        for path in self.architecture.end:
            states = module.get_submodule(path)(states)
        return cast(Tensor, cast(Any, module).forward_head(states))

    def load(self, folder: Path, config: Config, tensors: Mapping[str, Tensor]) -> nn.Module:
        return _create(f"local-dir:{folder}", {"pretrained": True})

    def load_pretrained(self, module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
        """Copy timm's weights: it converts older names, and positions of another image size."""
        functions = inspect.getmodule(type(module))
        convert = getattr(functions, "checkpoint_filter_fn", None)
        found = convert(dict(tensors), module) if convert else tensors
        last = cast(Any, module).get_classifier()
        self.classifier = next(path for path, part in module.named_modules() if part is last)
        super().load_pretrained(module, found, where)

    def _blocks(self, submodel: SubModel) -> list[tuple[str, list[str]]]:
        """List the container of each stage, and the paths of the blocks that it keeps."""
        if self.architecture.depth is None:
            return []
        first, paths = self.architecture.first_stage, []
        for stage, count in enumerate(self.kept(submodel), first):
            container = self.architecture.blocks.format(stage)
            paths.append((container, [f"{container}.{block}" for block in range(count)]))
        return paths

    def _scaled(self, name: str, width: float) -> Any:
        value = self._arguments[name]
        if isinstance(value, list | tuple):
            return [scaled(item, width) for item in value]
        step = self.architecture.steps.get(name)
        steps = value * width / step if step else 0
        if step and not math.isclose(steps, round(steps), rel_tol=1e-6):
            multiple = f"a multiple of {step}" if step > 1 else "a whole number"
            raise RequestError(
                f"width {width:g} makes {name} {value * width:g} of {value}, which must be"
                f" {multiple}: legal values are multiples of 1/{value // step}"
            )
        return value * width if isinstance(value, float) else scaled(value, width)


class _Call(nn.Module):
    """Calls a method of a module, which it does not hold as a part."""

    def __init__(self, owner: nn.Module, method: str) -> None:
        super().__init__()
        self._call: tuple[Callable[[Tensor], Tensor]] = (getattr(owner, method),)

    def forward(self, x: Tensor) -> Tensor:
        return self._call[0](x)


def _part(module: nn.Module, path: str) -> nn.Module:
    """Return a module, or a method of it as one."""
    if path in dict(module.named_children()):
        return module.get_submodule(path)
    return _Call(module, path)


def timm_models() -> list[str]:
    """List the models that timm can make; empty if it is not installed."""
    try:
        return list(_timm().list_models())
    except RequestError:
        return []


@dataclass(frozen=True)
class _Made:
    """What timm's class of a name is, and with which arguments it was called."""

    class_name: str
    architecture: TimmArchitecture
    parameters: Collection[str]
    arguments: Mapping[str, Any]


@lru_cache(maxsize=32)
def _inspected(name: str) -> _Made:
    """Build a network as timm does, and see which arguments its class gets.

    Raises:
        RequestError: timm is not installed, has no such model, or its class is not declared.
    """
    timm = _timm()
    if not timm.is_model(name):
        hint = suggestion(name, timm.list_models())
        raise RequestError(f"model.name: timm has no {name!r}{hint}")
    with torch.device("meta"):
        kind = type(timm.create_model(name))
        with _recording(kind) as arguments:
            timm.create_model(name)
    fields = [value for value in arguments.values() if is_dataclass(value)]
    for each in fields:
        arguments |= asdict(cast(Any, each))
    parameters = [p for p in arguments if p not in ("self", "cfg", "device", "dtype")]
    architecture = ARCHITECTURES.get(kind.__name__)
    if architecture is None:
        raise RequestError(
            f"model.name: {name} cannot be cut: no argument of timm's {kind.__name__} scales its"
            f" width or depth; it takes {listed(parameters)}; the classes that can be cut are"
            f" {listed(ARCHITECTURES)}"
        )
    return _Made(kind.__name__, architecture, parameters, arguments)


@contextmanager
def _recording(kind: type[nn.Module]) -> Iterator[dict[str, Any]]:
    """Note with which arguments a class is called, its defaults included."""
    original, noted = kind.__init__, dict[str, Any]()

    def noting(self: nn.Module, *given: Any, **named: Any) -> None:
        bound = inspect.signature(original).bind(self, *given, **named)
        bound.apply_defaults()
        own = {p.name for p in bound.signature.parameters.values() if p.kind is p.VAR_KEYWORD}
        for name, value in bound.arguments.items():
            noted.update(value if name in own else {name: value})
        original(self, *given, **named)

    kind.__init__ = noting  # type: ignore[method-assign]
    try:
        yield noted
    finally:
        kind.__init__ = original  # type: ignore[method-assign]


def _check_arguments(made: _Made, arguments: Mapping[str, Any]) -> None:
    """RequestError for arguments that the class does not have: some of timm's read files."""
    for name in arguments:
        if name not in made.parameters:
            raise RequestError(
                f"model.config.{name}: timm's {made.class_name} has no such argument"
                f"{suggestion(name, made.parameters)}"
            )


def _create(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    return cast(nn.Module, _timm().create_model(name, **arguments))


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise RequestError(
            f"family 'timm' needs the package timm: {install_line('timm')}"
        ) from error
    return timm
