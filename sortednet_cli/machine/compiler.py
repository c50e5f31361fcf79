"""torch's compiler: how it is set up, and what is told when it fails."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from sortednet_cli.errors import WorkError

MAX_KINDS = 4096
"""Most kinds of work that one function is compiled for. Torch's default of 8 is meant for a single
model whose inputs keep changing."""


def compiled(work: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return work that is compiled when it first runs, once for each kind of inputs.

    Args:
        options: as `torch.compile` takes them.
    """
    import torch._dynamo.config as limits
    import torch.compiler.config as caching

    limits.recompile_limit = max(limits.recompile_limit, MAX_KINDS)
    limits.accumulated_recompile_limit = max(limits.accumulated_recompile_limit, MAX_KINDS)
    # Its cache does not tell processors apart: code for longer vectors would compute nonsense here.
    caching.cache_key_tag = torch.backends.cpu.get_cpu_capability()
    # It logs on every machine without a GPU that it found none.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    return torch.compile(work, **options)


@contextmanager
def compiling(setting: str, instead: str) -> Iterator[None]:
    """Turn a compiler error into a WorkError.

    Args:
        setting: what switched the compiler on.
        instead: what to do without it.
    """
    from torch._dynamo.exc import TorchDynamoException

    try:
        with warnings.catch_warnings():  # torch's compiler warns about its own modules
            warnings.simplefilter("ignore")
            yield
    except TorchDynamoException as error:
        raise WorkError(f"{setting}: {_reason_of(error)}; {instead}") from error


def _reason_of(error: Exception) -> str:
    """Return the first line of a compiler error that says what happened."""
    lines = (line.strip() for line in str(error).splitlines())
    # "backend='inductor' raised:" says only that the next line does.
    return next(
        (line for line in lines if line and not line.endswith("raised:")), "no reason given"
    )
