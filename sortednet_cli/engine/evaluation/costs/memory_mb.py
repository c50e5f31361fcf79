"""Memory of inference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sortednet_cli.engine.evaluation.costs.base import ComputedCost, Effort
from sortednet_cli.space import SubModel

if TYPE_CHECKING:
    from sortednet_cli.engine.sources.source import Source


class MemoryMb(ComputedCost):
    """Peak memory of a forward pass of the standalone sub-model, in units of 10^6 bytes.

    Batch size 1, float32, the task's input size. Counted are weights and buffers, the inputs, and
    the most results of operations that are alive at once, as PyTorch's eager mode on a CPU makes
    and frees them. Not counted are what kernels take for themselves while they run, what allocators
    keep or round up, and the program with its libraries. Fake tensors stand for all of it: no
    memory is taken, and the value is the same on every machine.
    """

    name = "memory_mb"
    unit = "MB"
    units = "megabytes"
    label = "peak memory of inference, MB (batch size 1)"
    help = "Budget in megabytes (10^6 bytes): weights and activations, batch size 1."
    effort = Effort.TRACED

    def compute(self, source: Source, submodel: SubModel) -> float:
        import torch
        from torch._subclasses import FakeTensorMode
        from torch.utils._pytree import tree_leaves

        from sortednet_cli.machine.live_bytes import LiveBytes, storage_bytes
        from sortednet_cli.nesting import build_fake

        family = source.family
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        with fake, torch.device("cpu"), torch.no_grad():
            module = build_fake(family, family.shrink(submodel)).eval()
            inputs = source.format.random_inputs(1)
            held = [*module.parameters(), *module.buffers(), *tree_leaves(inputs)]
            with LiveBytes(held) as live:
                family.forward(module, inputs)
        peak: int = storage_bytes(held) + live.peak
        return peak / 1e6
