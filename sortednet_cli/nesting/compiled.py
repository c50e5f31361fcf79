"""Compiled blocks for training: one compiled block serves every block of its kind and size.

Knows blocks and `torch.compile`; neither views nor sub-models. A whole sub-model compiled would be
compiled again for each of hundreds; its blocks are few: depths share them all, so that a search
space costs one compilation for each kind of block and width.
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

MOST_KINDS = 4096
"""Kinds of blocks that may be compiled: torch gives up after 8 by itself, which is meant for one
model whose inputs keep changing."""


def compile_blocks(blocks: Iterable[nn.Module]) -> None:
    """Let blocks run compiled while they train; in evaluation they run as they were.

    Scores are then those of the stock module, which any other tool will reproduce. Sizes are
    compiled as they are: sub-models have fixed ones. Hooks stay outside of what is compiled. A
    layer on its own stays as it is: it is one kernel anyway, and a normalisation is put into
    training mode to measure its statistics, after training.
    """
    import torch._dynamo.config as limits

    limits.recompile_limit = max(limits.recompile_limit, MOST_KINDS)
    limits.accumulated_recompile_limit = max(limits.accumulated_recompile_limit, MOST_KINDS)
    # It tells every machine without a GPU that it found none.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    for block in blocks:
        if not any(block.children()):
            continue
        block.forward = _in_training(block)


@contextmanager
def compiling() -> Iterator[None]:
    """Tell what stopped the compiler; compilation happens when a block first runs."""
    from torch._dynamo.exc import TorchDynamoException

    try:
        with warnings.catch_warnings():  # of torch's own parts while they compile
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
