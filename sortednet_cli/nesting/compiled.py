"""Compile blocks for training: one compilation serves every block of the same kind and size.

Compiling whole sub-models would mean hundreds of compilations. All depths share their blocks, so a
search space costs one compilation for each kind of block and width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from sortednet_cli.machine.compiler import compiled


def compile_blocks(blocks: Iterable[nn.Module]) -> None:
    """Let blocks run compiled in training mode and uncompiled in evaluation mode.

    Scores are then those of the stock module, and any other tool reproduces them. Shapes are
    static, since each sub-model has fixed ones. Hooks are not compiled. Nor is a layer without
    children: it is a single kernel, and recalibration puts normalisation layers into training
    mode after training.
    """
    for block in blocks:
        if not any(block.children()):
            continue
        block.forward = _in_training(block)


def _in_training(block: nn.Module) -> Callable[..., Any]:
    plain = block.forward
    fast = compiled(plain, dynamic=False)

    def forward(*inputs: Any, **named: Any) -> Any:
        return (fast if block.training else plain)(*inputs, **named)

    return forward
