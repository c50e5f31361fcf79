"""The device that a command runs on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sortednet_cli import launch
from sortednet_cli.errors import RequestError, WorkError, reason_of
from sortednet_cli.machine.memory import lack_of_memory

_ACCELERATORS = ("cuda", "xpu", "mps")

_GRACE_SECONDS = 10.0
"""How long a device may take to finish; a launcher gives its processes 30 seconds to exit."""


def choose_device(name: str) -> torch.device:
    """Resolve `auto`, `cpu`, `cuda`, `cuda:1`, `mps`, `xpu`.

    Each of several processes takes an accelerator of its own. It becomes the current device before
    anything else, so that torch's own allocations are on it too.

    Raises:
        RequestError: there is no such device, or there are fewer than processes.
        WorkError: its memory is full.
    """
    if name == "auto":
        name = _accelerator() or "cpu"
        if name == "mps" and launch.world_size() > 1:
            name = "cpu"  # processes cannot exchange tensors of a Mac's GPU
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise _no_such(name, error) from error
    if device.type not in ("cpu", *_ACCELERATORS):
        raise _no_such(name, None)
    if device.type != "cpu":
        device = _device_of_process(device)
    try:
        if device.index is not None and device.type == _accelerator():
            torch.accelerator.set_device_index(device.index)
        float(torch.ones(1, device=device))
    except (RuntimeError, AssertionError) as error:
        reason = lack_of_memory(error)
        if reason is None:
            raise _no_such(str(device), error) from error
        raise WorkError(
            f"--device {device}: its memory is full ({reason}): free some memory, or take another"
            " device"
        ) from error
    return device


def _accelerator() -> str | None:
    """Return the type of this machine's accelerator, if torch can use it."""
    if not torch.accelerator.is_available():
        return None
    current = torch.accelerator.current_accelerator()
    return current.type if current is not None and current.type in _ACCELERATORS else None


def _device_of_process(device: torch.device) -> torch.device:
    """Return the accelerator of this process, one of possibly several in its job."""
    if launch.world_size() == 1:
        return device
    if device.type == "mps":
        raise RequestError("--device mps serves one process: start without torchrun, or take cpu")
    num_local = launch.local_world_size()
    if device.index is not None:
        if num_local > 1:
            raise RequestError(
                f"--device {device} is one device for {num_local} processes on this machine: take"
                f" {device.type}, which gives each process its own"
            )
        return device
    if device.type == _accelerator() and num_local > (count := torch.accelerator.device_count()):
        raise RequestError(
            f"--device {device}: {num_local} processes on this machine, but {count} such devices:"
            f" start {count}, or take --device cpu"
        )
    return torch.device(device.type, launch.local_rank())


def _no_such(name: str, error: BaseException | None) -> RequestError:
    legal = ["auto", "cpu"]
    if (kind := _accelerator()) is not None:
        legal += [kind] if kind == "mps" else [kind, f"{kind}:N"]
    why = "" if error is None else f" ({reason_of(error)})"
    listed = f"{', '.join(legal[:-1])} or {legal[-1]}"
    return RequestError(f"--device {name}: no such device on this machine{why}; take {listed}")


def describe_device(device: torch.device) -> str:
    """Name a device for a report of measurements: `cpu`, `cuda:0 (NVIDIA H200)`."""
    named = getattr(torch.get_device_module(device), "get_device_name", None)
    return str(device) if named is None else f"{device} ({named(device)})"


def wait_for(device: torch.device) -> None:
    """Wait until a device has finished its queued work; a CPU has none."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def finishes_in_time(device: torch.device, seconds: float = _GRACE_SECONDS) -> bool:
    """Whether a device finishes all its queued work within some time.

    On a GPU, a sum over processes never ends if one of them has died, and reading its result would
    wait for ever.
    """
    if device.type == "cpu":
        return True
    event = torch.Event(device)
    event.record()
    end = time.monotonic() + seconds
    while not event.query():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@contextmanager
def true_fp32() -> Iterator[None]:
    """Disable TF32, to whose 10 bits torch rounds the factors of a GPU's convolutions by default.

    A context manager and a decorator.
    """
    cudnn: Any = torch.backends.cudnn
    backends = (cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul)
    before = [backend.fp32_precision for backend in backends]
    # Use the older name: torch's compiler reads it, and fails if only the newer ones are set.
    cudnn.allow_tf32 = False
    if before[-1] == "tf32":
        backends[-1].fp32_precision = "ieee"
    try:
        yield
    finally:
        cudnn.allow_tf32 = before[0] == "tf32"
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def move_to(module: nn.Module, device: torch.device, channels_last: bool) -> nn.Module:
    """Move a root network to its device and memory format; must come before any view is made."""
    module.to(device)
    if channels_last:
        module.to(memory_format=torch.channels_last)
    return module
