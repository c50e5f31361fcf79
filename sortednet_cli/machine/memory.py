"""Too little memory, on any device: how it is recognised, and how it is told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from sortednet_cli.errors import WorkError

_ONEDNN = ("could not create a primitive", "could not execute a primitive")
"""oneDNN keeps its reason to itself; for a network that has run on meta it can only be memory for a
kernel's code or scratch."""

_SAYS_SO = re.compile(
    r"out of memory|OUT_OF_(?:DEVICE_|HOST_)?MEMORY|ALLOC(?:ATION)?_FAILED"
    # Libraries that could not even begin, and Metal's limit for one tensor.
    r"|CUBLAS_STATUS_NOT_INITIALIZED|Unable to find a valid cuDNN algorithm|Invalid buffer size"
)
"""What runtimes, cuBLAS, cuDNN, MIOpen, NCCL and Level Zero write: they have no class for it."""

_ADVICE = re.compile(
    r" (?:Of the allocated memory|If reserved|Use PYTORCH_|Please use `empty_cache`)"
)
"""Where an allocator begins to speak of itself and of its settings."""


def lack_of_memory(error: BaseException) -> str | None:
    """What an allocator said, in one sentence; None if the error is another one."""
    if isinstance(error, MemoryError):
        return "the allocator has no more"
    text = " ".join(str(error).split())
    # The CPU's allocator raises a plain RuntimeError.
    _, found, rest = text.partition("DefaultCPUAllocator: ")
    if found:
        return rest.partition(". Error code")[0]
    if text in _ONEDNN:
        return f"oneDNN {text}"
    if not isinstance(error, RuntimeError):
        return None
    for line in str(error).splitlines():
        if isinstance(error, torch.OutOfMemoryError) or _SAYS_SO.search(line):
            said = _ADVICE.split(line.strip())[0]
            return re.sub(r"^\w+ out of memory\. ", "", said).rstrip(".;")
    return None


@contextmanager
def enough_memory(user: str, advice: str) -> Iterator[None]:
    """Tell who had too little memory, how much it wanted, and what to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        reason = lack_of_memory(error)
        if reason is None:
            raise
        raise WorkError(f"out of memory: {user}: {reason}; {advice}") from error


def pass_of(group: Sequence[object], num_samples: int) -> str:
    """Name the pass that serves a group, for a message."""
    others = f" (with {len(group) - 1} more depths)" if len(group) > 1 else ""
    return f"{group[0]}{others} on {num_samples} samples"
