"""What a sub-model costs, read off its skeleton with no weights at all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from sortednet_cli.families import Family
from sortednet_cli.nesting.skeleton import build_skeleton
from sortednet_cli.space import SubModel


@dataclass(frozen=True)
class SubModelCost:
    """Parameters, and multiply-adds of one sample at the task's input size."""

    params: int
    macs: int

    @property
    def flops(self) -> int:
        """Floating-point operations: two for each multiply-add."""
        return 2 * self.macs


def cost_of(family: Family, submodel: SubModel, input_shape: tuple[int, ...]) -> SubModelCost:
    """Count a sub-model's parameters and multiply-adds (convolutions and matrix products).

    Args:
        input_shape: one sample's shape, [C, H, W] for images.
    """
    skeleton = build_skeleton(family, family.shrink(submodel)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        skeleton(torch.zeros(1, *input_shape, device="meta"))
    params = sum(parameter.numel() for parameter in skeleton.parameters())
    return SubModelCost(params, counter.get_total_flops() // 2)
