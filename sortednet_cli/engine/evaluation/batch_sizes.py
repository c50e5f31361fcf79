"""Batch sizes for scoring, which keep activations within a bound."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._pytree import tree_leaves

from sortednet_cli.data import InputFormat
from sortednet_cli.families import Family
from sortednet_cli.nesting import NestedNetwork, build_fake
from sortednet_cli.space import SubModel

ON_CPU = 32 << 20
"""Most bytes of an activation on a CPU, where larger batches are not faster."""

ON_ACCELERATOR = 256 << 20
"""Most bytes of an activation on an accelerator, which small batches do not keep busy."""

MOST = 512
LEAST_SCORED, LEAST_MEASURED = 8, 64
_STEP = 8


@dataclass(frozen=True)
class BatchSizes:
    """Numbers of samples in a batch. They depend on the root network but not on the sub-model.

    Attributes:
        scored: batch size for scoring, in which samples do not affect each other.
        measured: batch size for measuring normalisation statistics. It is the same on every device,
            and large enough for the variance between samples.
    """

    scored: int
    measured: int

    @classmethod
    def of(cls, network: NestedNetwork, inputs: InputFormat) -> BatchSizes:
        """Choose sizes for a nested network on its device."""
        return cls.within(activation_bytes(network.family, inputs), network.device)

    @classmethod
    def within(cls, each: int, device: torch.device) -> BatchSizes:
        """Choose sizes for a network whose largest activation has `each` bytes per sample."""
        most = ON_CPU if device.type == "cpu" else ON_ACCELERATOR
        return cls(_fitting(each, most, LEAST_SCORED), _fitting(each, ON_CPU, LEAST_MEASURED))


def _fitting(each: int, most: int, least: int) -> int:
    return min(MOST, max(least, most // each // _STEP * _STEP))


@torch.no_grad()
def activation_bytes(family: Family, inputs: InputFormat) -> int:
    """Count the bytes of the largest output of any module of the root, for one float32 sample.

    Logits do not count, because they are computed in chunks.
    """
    sizes = [1]

    def record(module: nn.Module, arguments: object, output: object) -> None:
        sizes.extend(leaf.nbytes for leaf in tree_leaves(output) if isinstance(leaf, Tensor))

    # Fake tensors and not meta tensors, because some stock classes read values of their inputs.
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cpu"):
        root = build_fake(family, family.root.config).eval()
        for module in root.modules():
            module.register_forward_hook(record)
        family.shared_pass([SubModel(())], lambda _: root).states(inputs.random_inputs(1))
    return max(sizes)
