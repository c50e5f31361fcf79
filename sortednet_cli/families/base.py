"""What every family states: how its root network shrinks, and which blocks remain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from sortednet_cli.errors import RequestError
from sortednet_cli.families.shared import Inputs, SharedPass, Step, TreePass, WholePass
from sortednet_cli.space import SubModel, kept_blocks

Config = dict[str, Any]
"""A stock configuration: plain values that JSON can hold."""

REFUSALS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What classes raise that are given a configuration they cannot build."""

MAX_BLOCKS = 4096
"""Blocks of a network: each is built, if only in words."""


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

    tokenizer_card = ""
    """Further ones that load the tokenizer, where the folder has one."""

    shares_depths = False
    """Whether one pass can serve sub-models that differ in depth alone."""

    shares_buffers = False
    """Whether buffers that no file holds are the same in every sub-model."""

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

    def forward(self, module: nn.Module, inputs: Inputs) -> Tensor:
        """Run a module as its users do; return its logits."""
        return cast(Tensor, module(inputs))

    def shared_pass(
        self, submodels: Sequence[SubModel], at: Callable[[SubModel], nn.Module]
    ) -> SharedPass:
        """Make the pass that serves sub-models of different depth, doing what they share once.

        Args:
            submodels: the deepest first; one alone unless the family `shares_depths`.
            at: gives the module of a sub-model, in the mode that it will run in.
        """
        (submodel,) = submodels
        return WholePass(at(submodel))

    def compiled_parts(self, submodel: SubModel, module: nn.Module) -> list[nn.Module]:
        """List the parts of a sub-model's module that its pass runs whole: they can be compiled."""
        return [module]

    def branch_end(self, block: nn.Module) -> Tensor | None:
        """Give the weight of a residual block that, at zero, makes it pass its input through.

        None for a block that does more than add to its input.
        """
        return None

    def stored_config(self, config: Config) -> Config:
        """Return what an artifact's `config.json` holds."""
        return config

    def load(self, folder: Path, config: Config, tensors: Mapping[str, Tensor]) -> nn.Module:
        """Load an artifact's module as its users do.

        Args:
            folder: the artifact, with configuration and weights in it.
            config: what was stored as its configuration.
            tensors: what was stored as its weights.
        """
        module = self.build(config)
        module.load_state_dict(tensors, strict=True)
        return module


class StagedFamily(Family):
    """A family whose blocks lie in stages, each cut from its end."""

    shares_depths = True

    @property
    @abstractmethod
    def stages(self) -> Sequence[int]:
        """Number of blocks in each stage of the root."""

    def kept(self, submodel: SubModel) -> tuple[int, ...]:
        """Count the blocks that each stage keeps."""
        depth = int(submodel.axes.get("depth", sum(self.stages)))
        return kept_blocks(self.stages, depth, self.root.depth_order)

    @abstractmethod
    def steps(self, submodel: SubModel, module: nn.Module) -> list[Step]:
        """List what a sub-model's module runs, from its inputs to the state before its tail."""

    def compiled_parts(self, submodel: SubModel, module: nn.Module) -> list[nn.Module]:
        return [part for step in self.steps(submodel, module) for part in step.modules]

    @abstractmethod
    def tail(self, module: nn.Module, states: Tensor) -> Tensor:
        """Make logits of what the last step returns; without normalisation statistics."""

    def shared_pass(
        self, submodels: Sequence[SubModel], at: Callable[[SubModel], nn.Module]
    ) -> SharedPass:
        modules = [at(submodel) for submodel in submodels]
        pairs = zip(submodels, modules, strict=True)
        return TreePass(modules, [self.steps(s, module) for s, module in pairs], self.tail)


def check_blocks(counts: Sequence[Any]) -> None:
    """RequestError for no blocks, or more over all stages than are ever built."""
    if sum(abs(count) for count in counts) > MAX_BLOCKS:
        raise RequestError(f"model.config: more than {MAX_BLOCKS:,} blocks")
    if sum(counts) < 1 or min(counts) < 0:
        raise RequestError(f"model.config: {sum(counts)} blocks")


def scaled(channels: int, width: float) -> int:
    """Scale a channel count and round to the nearest whole one, halves upwards."""
    count = int(channels * width + 0.5)
    if count < 1:
        raise RequestError(f"width {width:g} leaves no channel of {channels}")
    return count


def width_of(submodel: SubModel) -> float:
    return float(submodel.axes.get("width", 1))
