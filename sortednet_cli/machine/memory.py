"""Memory that is free, and reports of a lack of it, on any device."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from sortednet_cli.errors import WorkError

_ONEDNN = ("could not create a primitive", "could not execute a primitive")
"""oneDNN gives no reason. A network that runs on the meta device is valid, so only a lack of memory
for a kernel's code or scratch space is left."""

_OUT_OF_MEMORY = re.compile(
    r"out of memory|OUT_OF_(?:DEVICE_|HOST_)?MEMORY|ALLOC(?:ATION)?_FAILED"
    # Libraries that could not initialise, and Metal's limit for one tensor.
    r"|CUBLAS_STATUS_NOT_INITIALIZED|Unable to find a valid cuDNN algorithm|Invalid buffer size"
)
"""Messages of runtimes, cuBLAS, cuDNN, MIOpen, NCCL and Level Zero, which raise no class of their
own for it."""

_ADVICE = re.compile(
    r" (?:Of the allocated memory|If reserved|Use PYTORCH_|Please use `empty_cache`)"
)
"""Start of the allocator's advice on its own settings."""

MORE_MEMORY = "use a device with more, or free some of this one's"
"""Advice where a smaller batch would change the result, or nothing is left to lower."""

_SYSTEM, _GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def lack_of_memory(error: BaseException) -> str | None:
    """Return the allocator's reason in one sentence; None if the error has another cause."""
    if isinstance(error, MemoryError):
        return "the allocator has no memory left"
    text = " ".join(str(error).split())
    # The CPU's allocator raises a plain RuntimeError.
    _, marker, reason = text.partition("DefaultCPUAllocator: ")
    if marker:
        return reason.partition(". Error code")[0]
    if text in _ONEDNN:
        return f"oneDNN {text}"
    if not isinstance(error, RuntimeError):
        return None
    for line in str(error).splitlines():
        if isinstance(error, torch.OutOfMemoryError) or _OUT_OF_MEMORY.search(line):
            reason = _ADVICE.split(line.strip())[0]
            return re.sub(r"^\w+ out of memory\. ", "", reason).rstrip(".;")
    return None


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that a device has free; None where nothing tells.

    On a CPU they are what Linux says to be available, within the limit of the control group.
    """
    if device.type == "cpu":
        free = [_read_kib("MemAvailable"), _group_room()]
        return min((count for count in free if count is not None), default=None)
    tell = getattr(torch.get_device_module(device), "mem_get_info", None)
    return None if tell is None else int(tell(device)[0])


def _read_kib(name: str) -> int | None:
    try:
        return _entries(_SYSTEM)[f"{name}:"] << 10
    except (OSError, ValueError, KeyError):
        return None


def _group_room() -> int | None:
    """Return what the control group of a container leaves; None without a limit."""
    try:
        most, used = (
            int((_GROUP / f"memory.{name}").read_text(encoding="ascii"))
            for name in ("max", "current")
        )
        # Files that were read lately count as used, and make room when it is needed.
        used -= _entries(_GROUP / "memory.stat")["inactive_file"]
    except (OSError, ValueError, KeyError):  # not there, or `max` for no limit
        return None
    return max(0, most - used)


def _entries(file: Path) -> dict[str, int]:
    """Read lines of a name and a number."""
    lines = (line.split() for line in file.read_text(encoding="ascii").splitlines())
    return {words[0]: int(words[1]) for words in lines}


@contextmanager
def enough_memory(user: str, advice: str) -> Iterator[None]:
    """Turn a lack of memory into a WorkError that says what needed it and what to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        reason = lack_of_memory(error)
        if reason is None:
            raise
        raise WorkError(f"out of memory: {user}: {reason}; {advice}") from error


def describe_pass(group: Sequence[object], num_samples: int) -> str:
    """Describe the pass that serves a group of sub-models, for a message."""
    others = f" (with {len(group) - 1} more depths)" if len(group) > 1 else ""
    return f"{group[0]}{others} on {num_samples} samples"
