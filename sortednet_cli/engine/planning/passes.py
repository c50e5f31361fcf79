"""Multiply-adds of passes that sub-models share, counted on skeletons: no weights, no data."""

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
from sortednet_cli.nesting.skeleton import statistic_names
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.space.submodel import without_depth

Known = dict[Hashable, tuple[Tensor, int]]
"""By the steps taken so far: the state after them, and multiply-adds of the last."""

_ON_PAPER = torch.device("meta")


@dataclass(frozen=True)
class Route:
    """What one sub-model runs for a sample, in order.

    Attributes:
        steps: for each step what it is (equal where two sub-models run it as one) and its
            multiply-adds.
        tail: multiply-adds of what it runs on its own, norm and head.
        stored: bytes that an artifact of it holds: weights and normalisation statistics.
        statistics: bytes of the statistics alone.
    """

    steps: tuple[tuple[Hashable, int], ...]
    tail: int
    stored: int
    statistics: int


def shared_macs(routes: Sequence[Route], *, tails: bool = True) -> int:
    """Multiply-adds of running routes together: each step once, each tail by itself."""
    steps = {step: macs for route in routes for step, macs in route.steps}
    return sum(steps.values()) + (sum(route.tail for route in routes) if tails else 0)


def routes_of(family: Family, space: SearchSpace, inputs: InputFormat) -> dict[SubModel, Route]:
    """Count the route of every sub-model.

    Where all layers are alike, two of them tell the cost of any depth, for every width (and
    heads, FFN, ...). Elsewhere each step that a pass shares is run once.
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
        # The first step holds the embeddings too; every further layer is as the second.
        more = [((rest, number), both - one) for number in range(2, depth + 1)]
        routes[submodel] = Route(
            steps=(((rest, 1), one), *more),
            tail=first.tail,
            stored=first.stored + (depth - 1) * (second.stored - first.stored),
            statistics=0,
        )
    return routes


def _whole_route(family: Family, submodel: SubModel, inputs: InputFormat) -> Route:
    """Count a sub-model of layers that are all alike, as one step and a tail."""
    config = family.shrink(submodel)
    module = build_skeleton(family, config).eval()
    shared = family.shared_pass([submodel], lambda _: module)
    # Of one sample every token is scored where tokens are predicted, else its first.
    scored = 1 if inputs.classes else inputs.num_units
    states = torch.empty(scored, family.state_channels(config), device=_ON_PAPER)
    tail = _count(lambda: shared.logits(0, states))[1]
    _, whole = _count(lambda: family.forward(module, inputs.random_inputs(1)))
    return Route(((submodel, whole - tail),), tail, *stored_bytes(module))


def _route(family: Family, submodel: SubModel, inputs: InputFormat, known: Known) -> Route:
    """Count what a sub-model's pass runs, step by step if it tells its steps."""
    module = build_skeleton(family, family.shrink(submodel)).eval()
    shared = family.shared_pass([submodel], lambda _: module)
    with _ON_PAPER:
        state: Any = inputs.random_inputs(1)
    parts: list[tuple[Hashable, Callable[[Any], Tensor]]]
    parts = [(step.name, step) for step in shared.steps(0)]
    parts = parts or [(submodel, lambda batch: shared.states(batch)[0])]
    key: tuple[Hashable, ...] = (without_depth(submodel),)
    steps = []
    for name, run in parts:
        key = (*key, name)
        if key not in known:
            known[key] = _count(partial(run, state))
        state, macs = known[key]
        steps.append((key, macs))
    tail = _count(lambda: shared.logits(0, state))[1]
    return Route(tuple(steps), tail, *stored_bytes(module))


def _count(run: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """Run something without memory; return its result and its multiply-adds."""
    from torch.utils.flop_counter import FlopCounterMode  # brings in triton: where it is needed

    with FlopCounterMode(display=False) as counter, torch.no_grad(), _ON_PAPER:
        result = run()
    return result, counter.get_total_flops() // 2


def stored_bytes(module: nn.Module) -> tuple[int, int]:
    """Bytes that files hold of a module, and of its normalisation statistics among them."""
    names = set(statistic_names(module))
    sizes = {name: tensor.nbytes for name, tensor in stored_tensors(module).items()}
    return sum(sizes.values()), sum(size for name, size in sizes.items() if name in names)
