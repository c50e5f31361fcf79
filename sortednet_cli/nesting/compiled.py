"""Compile blocks for training: one compilation serves every block of the same kind and size.

Compiling whole sub-models would mean hundreds of compilations. All depths share their blocks, so a
search space costs one compilation for each kind of block and width.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sortednet_cli.errors import WorkError

MAX_KINDS = 4096
"""Most kinds of blocks to compile. Torch's default of 8 is meant for a single model whose inputs
keep changing."""


def compile_blocks(blocks: Iterable[nn.Module]) -> None:
    """Let blocks run compiled in training mode and uncompiled in evaluation mode.

    Scores are then those of the stock module, and any other tool reproduces them. Shapes are
    static, since each sub-model has fixed ones. Hooks are not compiled. Nor is a layer without
    children: it is a single kernel, and recalibration puts normalisation layers into training
    mode after training.
    """
    import torch._dynamo.config as limits

    limits.recompile_limit = max(limits.recompile_limit, MAX_KINDS)
    limits.accumulated_recompile_limit = max(limits.accumulated_recompile_limit, MAX_KINDS)
    # It logs on every machine without a GPU that it found none.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    for block in blocks:
        if not any(block.children()):
            continue
        block.forward = _in_training(block)


@contextmanager
def compiling() -> Iterator[None]:
    """Turn a compiler error into a WorkError. A block is compiled when it first runs."""
    from torch._dynamo.exc import TorchDynamoException

    try:
        with warnings.catch_warnings():  # torch's compiler warns about its own modules
            warnings.simplefilter("ignore")
            yield
    except TorchDynamoException as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        raise WorkError(f"train.compile: {reason.strip()}; train without it") from error


def _in_training(block: nn.Module) -> Callable[..., Any]:
    plain = block.forward
    compiled = torch.compile(plain, dynamic=False)

    def forward(*inputs: Any, **named: Any) -> Any:
        return (compiled if block.training else plain)(*inputs, **named)

    return forward
