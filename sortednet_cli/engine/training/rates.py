"""Learning rates of weights that few draws train."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sortednet_cli.nesting import NestedNetwork, TensorSlice
from sortednet_cli.rules import make_rule
from sortednet_cli.space import SubModel
from sortednet_cli.spec import TrainSpec

Held = tuple[str, frozenset[TensorSlice]]
"""A parameter of the root, and the slices of it that a draw trains."""


def rare_rates(network: NestedNetwork, spec: TrainSpec, opened: SubModel) -> dict[str, Tensor]:
    """Return the factors of the learning rate, by parameter; none if `train.rare_lr` is 1.

    A weight that a share p of the micro-batches trains gets 1 / sqrt(p), up to `train.rare_lr`.
    That is AdaGrad's rate (Duchi et al., JMLR 2011) for gradients of one size: it divides by the
    root of the sum of their squares, which is p times that of a weight that is always trained.

    Args:
        opened: the largest sub-model that is open.
    """
    if spec.rare_lr == 1:
        return {}
    phases = make_rule(spec, network.space).phases()
    draws = next(p for p in phases if p.rule.opened(p.start) == opened).draws()
    rates = {}
    for name, share in _shares(network, draws).items():
        rate = share.rsqrt().clamp(max=spec.rare_lr)
        rates[name] = torch.where(share > 0, rate, 1.0)
    return rates


def _shares(network: NestedNetwork, draws: Sequence[Sequence[SubModel]]) -> Mapping[str, Tensor]:
    """The share of `draws` that trains each weight, by parameter."""
    counts: Counter[Held] = Counter()
    for draw in draws:
        held: dict[str, set[TensorSlice]] = {}
        for submodel in draw:
            for piece in network.plan(submodel).slices.values():
                held.setdefault(piece.source, set()).add(piece)
        counts.update((name, frozenset(pieces)) for name, pieces in held.items())
    shares: dict[str, Tensor] = {}
    for (name, pieces), count in counts.items():
        if name in network.parameters:
            shape = network.parameters[name].shape
            inside = torch.stack([piece.mask(shape) for piece in pieces]).any(0)
            shares[name] = shares.get(name, torch.zeros(shape)) + count * inside
    return {name: share / len(draws) for name, share in shares.items()}
