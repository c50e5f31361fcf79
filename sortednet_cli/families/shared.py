"""One pass through the blocks that sub-models of different depth have in common.

Knows modules and the order in which they run; neither what is learned from the states nor where
inputs come from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

Inputs = Tensor | dict[str, Tensor]
"""What a module is called with: images [B, C, H, W], or token tensors by argument."""

Tail = Callable[[Any, Tensor], Tensor]
"""From a module and states of it to logits."""


class SharedPass(ABC):
    """Runs several sub-models at once, doing what they share only once.

    The state of a sub-model is what its tail makes logits of: the tail is the part that every
    sub-model runs on its own.

    Attributes:
        modules: every module that the pass runs, or parts of; each once.
    """

    modules: Sequence[nn.Module]

    @abstractmethod
    def states(self, inputs: Inputs) -> list[Tensor]:
        """Run the shared part once; return the state of each sub-model in order."""

    def steps(self, number: int) -> Sequence[Step]:
        """List what takes inputs to the state of the sub-model with that number, in order.

        None if that is a whole which nothing else shares.
        """
        return ()

    @abstractmethod
    def logits(self, number: int, states: Tensor) -> Tensor:
        """Make logits of states of the sub-model with that number."""

    def followers(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """Yield (a module that was run, one of another sub-model that it was run for)."""
        return iter(())


class WholePass(SharedPass):
    """One sub-model whose inside is unknown: its state is its logits."""

    def __init__(self, module: nn.Module, forward: Callable[[nn.Module, Inputs], Tensor]) -> None:
        self.modules = [module]
        self._forward = forward

    def states(self, inputs: Inputs) -> list[Tensor]:
        return [self._forward(self.modules[0], inputs)]

    def logits(self, number: int, states: Tensor) -> Tensor:
        return states


@dataclass(frozen=True)
class Step:
    """Modules that run one after another.

    Attributes:
        name: where they lie in the root network: equal names hold equal weights.
        modules: the same modules in one sub-model.
    """

    name: str
    modules: tuple[nn.Module, ...]

    def __call__(self, state: Tensor) -> Tensor:
        for module in self.modules:
            state = module(state)
        return state


@dataclass
class _Node:
    """A step and what comes after it, for all sub-models that reach it the same way."""

    step: Step
    followers: list[Step]
    children: list[_Node]
    ends: list[int]


class TreePass(SharedPass):
    """Sub-models as paths of steps, merged into a tree as far as they agree.

    In evaluation two paths agree as long as their weights and their normalisation statistics
    do; in training statistics are those of the batch.
    """

    def __init__(
        self, modules: Sequence[nn.Module], paths: Sequence[Sequence[Step]], tail: Tail
    ) -> None:
        self.modules = modules
        self._paths = paths
        self._tail = tail
        self._roots: list[_Node] = []
        for number, path in enumerate(paths):
            children, node = self._roots, None
            for step in path:
                node = _join(children, step, training=modules[number].training)
                children = node.children
            assert node is not None
            node.ends.append(number)

    def steps(self, number: int) -> Sequence[Step]:
        return self._paths[number]

    def states(self, inputs: Inputs) -> list[Tensor]:
        found: dict[int, Tensor] = {}
        # The first child is the trunk: branches run before it goes on, so that one state of it
        # is kept at a time.
        stack = [(node, cast(Tensor, inputs)) for node in self._roots]
        while stack:
            node, state = stack.pop()
            state = node.step(state)
            found |= dict.fromkeys(node.ends, state)
            stack += [(child, state) for child in node.children]
        return [found[number] for number in range(len(self.modules))]

    def logits(self, number: int, states: Tensor) -> Tensor:
        return self._tail(self.modules[number], states)

    def followers(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        stack = list(self._roots)
        while stack:
            node = stack.pop()
            for follower in node.followers:
                yield from zip(node.step.modules, follower.modules, strict=True)
            stack += node.children


def _join(children: list[_Node], step: Step, training: bool) -> _Node:
    """Find the node that runs `step` already, or add one."""
    for node in children:
        if node.step.name == step.name and (training or _same_statistics(node.step, step)):
            node.followers.append(step)
            return node
    children.append(_Node(step, [], [], []))
    return children[-1]


def _same_statistics(one: Step, other: Step) -> bool:
    pairs = zip(_statistics(one), _statistics(other), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def _statistics(step: Step) -> list[Tensor]:
    return [
        buffer
        for module in step.modules
        for layer in module.modules()
        if isinstance(layer, _NormBase)
        for buffer in layer.buffers(recurse=False)
    ]
