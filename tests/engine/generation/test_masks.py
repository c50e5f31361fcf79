"""The one mask that all others are cut out of."""

from __future__ import annotations

import torch

from sortednet_cli.engine.generation import Stack
from sortednet_cli.engine.generation.layers import causal_mask
from tests.engine.generation.models import make


def test_a_mask_is_right_and_aligned_wherever_it_begins() -> None:
    """A GPU's kernels want rows at multiples of 16 bytes, in float32 and in bfloat16."""
    for kind, dtype in (("mistral", torch.float32), ("qwen2", torch.bfloat16)):
        stack = Stack(make(kind).to(dtype), 64)
        layer, groups = stack.layers[0], stack.layers[0].heads // stack.layers[0].key_heads
        for first in range(1, 60):
            for rows in (2, 4):
                mask = stack._mask(layer.window, first, first + rows)
                assert mask is not None
                wanted = causal_mask(
                    rows, first + rows, first, groups, layer.window, torch.empty(0, dtype=dtype)
                )
                assert torch.equal(mask, wanted)
                assert mask.data_ptr() % 16 == 0
                assert mask.stride(0) * mask.itemsize % 16 == 0
