"""The largest micro-batch that the memory at hand holds."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sortednet_cli.data import Dataset
from sortednet_cli.engine.planning import costs
from sortednet_cli.engine.planning.footprint import footprint_of
from sortednet_cli.families import Family
from sortednet_cli.machine.memory import free_memory
from sortednet_cli.nesting import build_skeleton
from sortednet_cli.rules import make_rule
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import RunSpec

_SHARE = 0.7
"""How much of the free memory a training may plan with: kernels need some that nobody counts."""
_LEAST = 2
"""BatchNorm needs more than one sample."""


@dataclass(frozen=True)
class Room:
    """How a training fits into a device's memory.

    Attributes:
        batch_size: samples of a micro-batch.
        accumulate: micro-batches of an update.
        needed: bytes of weights, gradient, optimizer and a micro-batch.
        free: bytes that the device has; None if nothing tells.
    """

    batch_size: int
    accumulate: int
    needed: int
    free: int | None

    @property
    def fits(self) -> bool:
        return self.free is None or self.needed <= self.free


def fit_batch(spec: RunSpec, family: Family, data: Dataset, device: torch.device) -> Room:
    """Halve the spec's micro-batch until it fits the memory, and accumulate as many more.

    An update never takes more samples than there are. What a micro-batch holds grows in proportion
    to its samples, so two are counted.
    """
    inputs, rule = data.format, make_rule(spec.train, SearchSpace.of(spec.space))
    # Whatever the training measures as faster, float32 takes the most.
    train = spec.train.model_copy(update={"precision": "fp32"})
    small, large = (
        footprint_of(family, rule, train.model_copy(update={"batch_size": count}), inputs)
        for count in (_LEAST, 2 * _LEAST)
    )
    each = (large.peak - small.peak) / _LEAST
    whole = sum(p.nbytes for p in build_skeleton(family, family.root.config).parameters())
    state = costs.optimizer_bytes(train, whole) + costs.step_mask_bytes(train, rule, whole)
    fixed = whole + small.gradient + state + small.peak - _LEAST * each
    free = free_memory(device)
    size, accumulate = train.batch_size, 1
    while size > max(1, data.batches_per_epoch(1)):
        size //= 2
    while free is not None and size > _LEAST and fixed + each * size > _SHARE * free:
        size, accumulate = size // 2, accumulate * 2
    return Room(size, accumulate, round(fixed + each * size), free)
