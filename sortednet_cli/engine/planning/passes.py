"""Multiply-adds of passes that sub-models share, counted on skeletons without weights or data."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from sortednet_cli.data import InputFormat
from sortednet_cli.families import Family
from sortednet_cli.nesting import build_skeleton, stored_tensors
from sortednet_cli.nesting.counting import count_macs, kinds_of
from sortednet_cli.nesting.skeleton import statistic_names
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.space.submodel import without_depth

Known = dict[Hashable, tuple[Tensor, int]]
"""For each path of steps, the state after it and the multiply-adds of its last step."""

_META = torch.device("meta")


@dataclass(frozen=True)
class Route:
    """The steps that a sub-model runs for a sample, in order.

    Attributes:
        steps: a key and the multiply-adds of each step. Two sub-models share steps with the same
            key.
        tail: multiply-adds of its tail.
        stored: bytes of its weights and normalisation statistics in an artifact.
        statistics: bytes of the statistics alone.
    """

    steps: tuple[tuple[Hashable, int], ...]
    tail: int
    stored: int
    statistics: int


def shared_macs(routes: Sequence[Route], *, tails: bool = True) -> int:
    """Count the multiply-adds of running routes together: each step once, and every tail."""
    steps = {step: macs for route in routes for step, macs in route.steps}
    return sum(steps.values()) + (sum(route.tail for route in routes) if tails else 0)


def routes_of(family: Family, space: SearchSpace, inputs: InputFormat) -> dict[SubModel, Route]:
    """Count the route of every sub-model.

    If all layers are alike, the cost of any depth follows from depths 1 and 2. Otherwise every
    step is counted, but a shared one only once.
    """
    if family.num_alike_layers:
        return _routes_of_layers(family, space, inputs)
    known: Known = {}
    return {submodel: _route(family, submodel, inputs, known) for submodel in space.submodels}


def _routes_of_layers(
    family: Family, space: SearchSpace, inputs: InputFormat
) -> dict[SubModel, Route]:
    @cache
    def known(rest: tuple[tuple[str, int | float], ...]) -> tuple[Route, Route]:
        two = min(2, family.num_alike_layers)
        first, second = (
            _whole_route(family, SubModel.of({**dict(rest), "depth": depth}), inputs)
            for depth in (1, two)
        )
        return first, second

    routes = {}
    for submodel in space.submodels:
        rest = without_depth(submodel)
        depth = int(submodel.axes.get("depth", family.num_alike_layers))
        first, second = known(rest)
        (_, one), (_, both) = first.steps[-1], second.steps[-1]
        # The first step includes the embeddings; all other layers cost as much as the second.
        more = [((rest, number), both - one) for number in range(2, depth + 1)]
        routes[submodel] = Route(
            steps=(((rest, 1), one), *more),
            tail=first.tail,
            stored=first.stored + (depth - 1) * (second.stored - first.stored),
            statistics=0,
        )
    return routes


def _whole_route(family: Family, submodel: SubModel, inputs: InputFormat) -> Route:
    """Count a sub-model whose layers are alike, as one step and a tail."""
    config = family.shrink(submodel)
    module = build_skeleton(family, config).eval()
    shared = family.shared_pass([submodel], lambda _: module)
    # A language model scores all tokens of a sample, a classifier one.
    num_scored = 1 if inputs.classes else inputs.num_units
    states = torch.empty(num_scored, family.state_channels(config), device=_META)
    kinds = kinds_of(module)
    _, tail = count_macs(kinds, lambda: shared.logits(0, states))
    _, whole = count_macs(kinds, lambda: family.forward(module, inputs.random_inputs(1)))
    return Route(((submodel, whole - tail),), tail, *stored_bytes(module))


def _route(family: Family, submodel: SubModel, inputs: InputFormat, known: Known) -> Route:
    """Count a sub-model step by step, or as one step if its pass does not list its steps."""
    module = build_skeleton(family, family.shrink(submodel)).eval()
    shared = family.shared_pass([submodel], lambda _: module)
    with _META:
        state: Any = inputs.random_inputs(1)
    parts: list[tuple[Hashable, Callable[[Any], Tensor], Sequence[nn.Module]]]
    parts = [(step.name, step, step.modules) for step in shared.steps(0)]
    parts = parts or [(submodel, lambda batch: shared.states(batch)[0], shared.modules)]
    key: tuple[Hashable, ...] = (without_depth(submodel),)
    steps = []
    for name, run, blocks in parts:
        key = (*key, name)
        if key not in known:
            known[key] = count_macs(kinds_of(*blocks), partial(run, state))
        state, macs = known[key]
        steps.append((key, macs))
    _, tail = count_macs(kinds_of(module), lambda: shared.logits(0, state))
    return Route(tuple(steps), tail, *stored_bytes(module))


def stored_bytes(module: nn.Module) -> tuple[int, int]:
    """Return the bytes of a module's stored tensors, and of its normalisation statistics."""
    names = set(statistic_names(module))
    sizes = {name: tensor.nbytes for name, tensor in stored_tensors(module).items()}
    return sum(sizes.values()), sum(size for name, size in sizes.items() if name in names)
