"""Passes that run the blocks which sub-models of different depth share only once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from sortednet_cli.errors import RequestError
from sortednet_cli.machine.transfer import fetch

Inputs = Tensor | dict[str, Tensor]
"""Inputs of a module: images [B, C, H, W], or token tensors by the name of the argument."""

Tail = Callable[[Any, Tensor], Tensor]
"""Computes logits from a module and its states."""


class SharedPass(ABC):
    """Runs several sub-models together, and the blocks that they share only once.

    Every sub-model runs its tail on its own. Its state is the input of its tail.

    Attributes:
        modules: the modules that the pass runs, whole or in part, each listed once.
    """

    modules: Sequence[nn.Module]

    @abstractmethod
    def states(self, inputs: Inputs) -> list[Tensor]:
        """Run everything but the tails; return the state of each sub-model in order."""

    def skip(self, layers: Collection[int]) -> None:
        """Let `states` go past some layers of the root network, by their numbers from 0.

        Raises:
            RequestError: the pass does not run layers one by one.
        """
        raise RequestError(
            "train.layer_dropout: passes of this family cannot skip layers: set it to 0"
        )

    def steps(self, number: int) -> Sequence[Step]:
        """List the steps from the inputs to the state of sub-model `number`, in order.

        The list is empty if the pass shares nothing step by step.
        """
        return ()

    @abstractmethod
    def logits(self, number: int, states: Tensor) -> Tensor:
        """Compute logits from states of sub-model `number`."""

    def followers(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """Yield pairs: a module that is run, and a module of another sub-model it stands for."""
        return iter(())


class WholePass(SharedPass):
    """Runs one sub-model whole; its state is its logits."""

    def __init__(self, module: nn.Module, forward: Callable[[nn.Module, Inputs], Tensor]) -> None:
        self.modules = [module]
        self._forward = forward

    def states(self, inputs: Inputs) -> list[Tensor]:
        return [self._forward(self.modules[0], inputs)]

    def logits(self, number: int, states: Tensor) -> Tensor:
        return states


@dataclass(frozen=True)
class Step:
    """Modules of one sub-model that run one after another.

    Attributes:
        name: their path in the root network; steps with the same name have the same weights.
        modules: the modules.
    """

    name: str
    modules: tuple[nn.Module, ...]

    def __call__(self, state: Tensor) -> Tensor:
        for module in self.modules:
            state = module(state)
        return state


@dataclass
class _Node:
    """A step in the tree of steps.

    Attributes:
        step: the step that is run.
        followers: the same step of other sub-models, which are not run.
        children: the steps that come next.
        ends: numbers of the sub-models whose state this step computes.
    """

    step: Step
    followers: list[Step]
    children: list[_Node]
    ends: list[int]


class TreePass(SharedPass):
    """Merges the steps of several sub-models into a tree, and runs each step once.

    Two sub-models share a step if its weights are the same. In evaluation its normalisation
    statistics must be the same too; in training they are the batch's.

    Args:
        modules: the modules of the sub-models.
        paths: the steps of each of them.
        tail: computes logits from a module and its state.
    """

    def __init__(
        self, modules: Sequence[nn.Module], paths: Sequence[Sequence[Step]], tail: Tail
    ) -> None:
        self.modules = modules
        self._paths = paths
        self._tail = tail
        self._roots: list[_Node] = []
        pairs = zip(modules, paths, strict=True)
        statistics = _on_host([path for module, path in pairs if not module.training])
        for number, path in enumerate(paths):
            children, node = self._roots, None
            for step in path:
                node = _join(children, step, statistics)
                children = node.children
            assert node is not None
            node.ends.append(number)

    def steps(self, number: int) -> Sequence[Step]:
        return self._paths[number]

    def states(self, inputs: Inputs) -> list[Tensor]:
        states: dict[int, Tensor] = {}
        # The first child continues the trunk. It runs after the branches, so that only one state
        # of the trunk is in memory at a time.
        stack = [(node, cast(Tensor, inputs)) for node in self._roots]
        while stack:
            node, state = stack.pop()
            state = node.step(state)
            states |= dict.fromkeys(node.ends, state)
            stack += [(child, state) for child in node.children]
        return [states[number] for number in range(len(self.modules))]

    def logits(self, number: int, states: Tensor) -> Tensor:
        return self._tail(self.modules[number], states)

    def followers(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        stack = list(self._roots)
        while stack:
            node = stack.pop()
            for follower in node.followers:
                yield from zip(node.step.modules, follower.modules, strict=True)
            stack += node.children


Statistics = dict[Step, list[Tensor]]
"""Normalisation statistics on the host of the steps that must agree in them."""


def _on_host(paths: Sequence[Sequence[Step]]) -> Statistics:
    """Copy the statistics of paths; one alone has none to agree with."""
    steps = [step for path in paths for step in path] if len(paths) > 1 else []
    return fetch({step: _statistics(step) for step in steps})


def _join(children: list[_Node], step: Step, statistics: Statistics) -> _Node:
    """Find the node that runs `step` already, or add one."""
    for node in children:
        if node.step.name == step.name and _same(node.step, step, statistics):
            node.followers.append(step)
            return node
    children.append(_Node(step, [], [], []))
    return children[-1]


def _same(one: Step, other: Step, statistics: Statistics) -> bool:
    pairs = zip(statistics.get(one, ()), statistics.get(other, ()), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def _statistics(step: Step) -> list[Tensor]:
    return [
        buffer
        for module in step.modules
        for layer in module.modules()
        if isinstance(layer, _NormBase)
        for buffer in layer.buffers(recurse=False)
    ]
