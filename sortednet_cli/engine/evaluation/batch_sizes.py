"""How many samples are scored at once: as many as keep the activations within a bound."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._pytree import tree_leaves

from sortednet_cli.data import InputFormat
from sortednet_cli.families import Family
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.space import SubModel

ON_CPU = 32 << 20
"""Most bytes of one activation on a CPU: more samples at once are no faster there."""

ON_ACCELERATOR = 256 << 20
"""And elsewhere, where small batches leave units idle."""

MOST = 512
LEAST_SCORED, LEAST_MEASURED = 8, 64
_STEP = 8


@dataclass(frozen=True)
class BatchSizes:
    """Samples of a batch. Functions of the root network alone, whatever sub-model is scored.

    Attributes:
        scored: where a sample's result is its own, whatever lies beside it in the batch.
        measured: where normalisation statistics of the batch are taken: the same on every device,
            and at least as many as tell the spread between samples.
    """

    scored: int
    measured: int

    @classmethod
    def of(cls, network: NestedNetwork, inputs: InputFormat) -> BatchSizes:
        return cls.within(activation_bytes(network.family, inputs), network.device)

    @classmethod
    def within(cls, each: int, device: torch.device) -> BatchSizes:
        """Sizes for a network whose largest activation has `each` bytes for a sample."""
        most = ON_CPU if device.type == "cpu" else ON_ACCELERATOR
        return cls(_fitting(each, most, LEAST_SCORED), _fitting(each, ON_CPU, LEAST_MEASURED))


def _fitting(each: int, most: int, least: int) -> int:
    return min(MOST, max(least, most // each // _STEP * _STEP))


@torch.no_grad()
def activation_bytes(family: Family, inputs: InputFormat) -> int:
    """Bytes of the largest output of a module of the root network, for one float32 sample.

    Logits that are made in chunks do not count.
    """
    sizes = [1]

    def note(module: nn.Module, arguments: object, output: object) -> None:
        sizes.extend(leaf.nbytes for leaf in tree_leaves(output) if isinstance(leaf, Tensor))

    # Not on meta: what a stock class asks of its inputs' values, fake tensors know how to pass.
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cpu"):
        root = family.build(family.root.config).eval()
        for module in root.modules():
            module.register_forward_hook(note)
        family.shared_pass([SubModel(())], lambda _: root).states(inputs.random_inputs(1))
    return max(sizes)
