"""Custom models: a factory `package.module:function` with keyword arguments."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, Self, cast

from torch import nn

from sortednet_cli.errors import RequestError, reason_of
from sortednet_cli.families.base import Family
from sortednet_cli.families.fused import Fused, declared_fused
from sortednet_cli.families.root import Config, Root, scaled
from sortednet_cli.space import SubModel, kept_blocks
from sortednet_cli.spec import ModelSpec
from sortednet_cli.spec.factories import check_allowed, missing_module

_PACKAGE = Path(__file__).parents[1]


class CustomFamily(Family):
    """Applies a spec's declaration of axes and blocks to a factory that the user allows to run.

    Args:
        root: the root network; its `declaration` holds `factory`, `axes`, `blocks` and `fused` of
            the spec.
        allowed: factories that the user allows to run, as `MODULE:NAME`, besides those in the
            environment variable `SORTEDNET_ALLOW_FACTORY` (separated by commas).

    Raises:
        RequestError: the factory is not allowed.
    """

    refusals = (Exception,)
    declares_fused = False

    def __init__(self, root: Root, allowed: Collection[str]) -> None:
        super().__init__(root)
        self.factory = str(root.declaration["factory"])
        self.axes: dict[str, dict[str, Any]] = dict(root.declaration["axes"])
        self.blocks: dict[str, Any] | None = root.declaration.get("blocks")
        self._fused = declared_fused(root.declaration)
        check_allowed(self.factory, allowed)
        self.loader = self.factory
        module, _, name = self.factory.partition(":")
        allowed = f'"user/name", allow_factory=["{self.factory}"]'
        self.hub_card = f"sortednet_cli.load_artifact({allowed}).module()"
        self.card = (
            "import json\n\nfrom safetensors.torch import load_file\n"
            f"from {module} import {name}\n\n"
            f'model = {name}(**json.load(open("config.json"))["arguments"])\n'
            'model.load_state_dict(load_file("model.safetensors"), strict=True)\nmodel.eval()\n'
        )

    @classmethod
    def open(cls, root: Root, allowed_factories: Collection[str]) -> Self:
        return cls(root, allowed_factories)

    @classmethod
    def complete_config(
        cls,
        model: ModelSpec,
        task: str,
        facts: Mapping[str, Any],
        stock: Mapping[str, Any] | None = None,
    ) -> Config:
        return dict(model.config)

    @property
    def fused(self) -> Mapping[str, Fused]:
        return self._fused

    @property
    def max_depth(self) -> int:
        return sum(self._stages()) if "depth" in self.axes else 0

    def build(self, config: Config) -> nn.Module:
        module = super().build(config)
        if not isinstance(module, nn.Module):
            raise RequestError(
                f"{self.factory} returned {type(module).__name__!r} instead of an nn.Module"
            )
        return module

    def construct(self, config: Config) -> nn.Module:
        factory = import_factory(self.factory)
        with _foreign_code():
            return cast(nn.Module, factory(**config))

    def refusal(self, error: Exception) -> str:
        reason = f"{reason_of(error)} ({_line_of(error)})"
        if isinstance(error, TypeError):
            return f"{self.factory} refused its arguments: {reason}"
        return f"{self.factory} raised {type(error).__name__}: {reason}"

    def shrink(self, submodel: SubModel) -> Config:
        config = dict(self.root.config)
        for axis, value in submodel.values:
            effect = self.axes[axis]
            for argument in effect.get("scales") or ():
                config[argument] = _scaled_argument(self._argument(argument), float(value))
            if effect.get("sets"):
                config[effect["sets"]] = value
            if effect.get("stages"):
                kept = kept_blocks(
                    self._argument(effect["stages"]), int(value), self.root.depth_order
                )
                config[effect["stages"]] = list(kept)
        return config

    def module_map(self, submodel: SubModel) -> dict[str, str | None]:
        if self.blocks is None:
            return {"": ""}
        paths: list[str] = list(self.blocks["paths"])
        stages = zip(
            paths,
            self._kept(submodel),
            self._stages(),
            _each(self.blocks["before"], len(paths)),
            _each(self.blocks["after"], len(paths)),
            strict=True,
        )
        mapping: dict[str, str | None] = {"": ""}
        for path, kept, full, before, after in stages:
            # Without this, modules of the container that are not mapped below would match "".
            mapping[path] = None
            mapping |= {f"{path}.{i}": f"{path}.{i}" for i in range(before + kept)}
            for i in range(after):
                mapping[f"{path}.{before + kept + i}"] = f"{path}.{before + full + i}"
        return mapping

    def stored_config(self, config: Config, dtype: str) -> Config:
        return {"factory": self.factory, "arguments": config}

    def _argument(self, name: str) -> Any:
        if name not in self.root.config:
            raise RequestError(f"model.config.{name} is missing: an axis needs it")
        return self.root.config[name]

    def _stages(self) -> list[int]:
        """Read the root's blocks per stage from the argument that depth changes."""
        depth = self.axes.get("depth", {})
        if depth.get("stages"):
            stages = list(self._argument(depth["stages"]))
        elif depth.get("sets"):
            stages = [int(self._argument(depth["sets"]))]
        else:
            raise RequestError("model.axes.depth needs `sets` or `stages`")
        assert self.blocks is not None
        if len(stages) != len(self.blocks["paths"]):
            raise RequestError(
                f"model.blocks.paths names {len(self.blocks['paths'])} containers"
                f" for {len(stages)} stages"
            )
        return stages

    def _kept(self, submodel: SubModel) -> tuple[int, ...]:
        stages = self._stages()
        depth = int(submodel.axes.get("depth", sum(stages)))
        return kept_blocks(stages, depth, self.root.depth_order)


def import_factory(name: str) -> Callable[..., object]:
    """Import an allowed factory; RequestError if that fails."""
    module_name, _, function = name.partition(":")
    try:
        with _foreign_code():
            factory: Callable[..., object] = getattr(importlib.import_module(module_name), function)
    except Exception as error:
        raise RequestError(
            f"model.factory: cannot import {name!r}: {reason_of(error)}{missing_module(name)}"
        ) from error
    return factory


@contextmanager
def _foreign_code() -> Iterator[None]:
    """Allow imports from the working folder, and print to stderr instead of stdout."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        with suppress(ValueError):  # the code may have removed it
            sys.path.remove(folder)


def _line_of(error: Exception) -> str:
    """Name the line that raised an error, preferably a line of the user's code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not Path(frame.filename).is_relative_to(_PACKAGE)]
    frame = (own or frames)[0]
    return f"{Path(frame.filename).name}, line {frame.lineno}"


def _each(count: int | list[int], containers: int) -> list[int]:
    """A count of each container: one number holds for all of them."""
    return list(count) if isinstance(count, list | tuple) else [int(count)] * containers


def _scaled_argument(argument: Any, factor: float) -> Any:
    if isinstance(argument, list):
        return [_scaled_argument(item, factor) for item in argument]
    if isinstance(argument, int) and not isinstance(argument, bool):
        return scaled(argument, factor)
    raise RequestError(
        f"an axis scales {argument!r}, but can scale only whole numbers and lists of them"
    )
