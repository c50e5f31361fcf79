"""What every family states: how its root network shrinks, and which blocks remain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from sortednet_cli.errors import RequestError
from sortednet_cli.space import SubModel, kept_blocks

Config = dict[str, Any]
"""A stock configuration: plain values that JSON can hold."""


@dataclass(frozen=True)
class Root:
    """The root network in words: enough to build it, shrink it and map its blocks.

    A run and every artifact cut from it store the same root, so that axis values always
    mean the same thing. `declaration` is what a custom family declares, empty otherwise.
    """

    family: str
    config: Config
    depth_order: str
    declaration: Mapping[str, Any] = field(default_factory=dict)


class Family(ABC):
    """The rules of one family, bound to one root network. Knows nothing of weights."""

    loader: str
    """Name of the class or function that builds the module, for people."""

    card: str
    """Python lines that load an artifact from its folder without this package."""

    def __init__(self, root: Root) -> None:
        self.root = root

    @abstractmethod
    def build(self, config: Config) -> nn.Module:
        """Build the stock module of a configuration, with freshly initialised weights."""

    @abstractmethod
    def shrink(self, submodel: SubModel) -> Config:
        """Return the sub-model's stock configuration; RequestError if a value is illegal."""

    @abstractmethod
    def module_map(self, submodel: SubModel) -> dict[str, str | None]:
        """Map each module path of the sub-model that holds tensors to its root path.

        The longest matching path decides. Every kept block is named, and so is everything
        outside the blocks (stem, head): a tensor under no named path, or under one mapped
        to None, is an error, never a guess.
        """

    def stored_config(self, config: Config) -> Config:
        """Return what an artifact's `config.json` holds."""
        return config


class StagedFamily(Family):
    """A family whose blocks lie in stages, each cut from its end."""

    @property
    @abstractmethod
    def stages(self) -> Sequence[int]:
        """Number of blocks in each stage of the root."""

    def kept(self, submodel: SubModel) -> tuple[int, ...]:
        """Blocks that each stage keeps."""
        depth = int(submodel.axes.get("depth", sum(self.stages)))
        return kept_blocks(self.stages, depth, self.root.depth_order)


def scaled(channels: int, width: float) -> int:
    """Scale a channel count and round to the nearest whole one, halves upwards."""
    count = int(channels * width + 0.5)
    if count < 1:
        raise RequestError(f"width {width:g} leaves no channel of {channels}")
    return count


def width_of(submodel: SubModel) -> float:
    return float(submodel.axes.get("width", 1))
