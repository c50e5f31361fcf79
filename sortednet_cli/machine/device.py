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
"""How long a device may take to finish; a launcher gives its processes 30 seconds to leave."""


def choose_device(name: str) -> torch.device:
    """Resolve `auto`, `cpu`, `cuda`, `cuda:1`, `mps`, `xpu`.

    Of several processes each takes an accelerator of its own, and makes it the current one before
    anything else: what torch allocates for itself is then on that one too.

    Raises:
        RequestError: there is no such device, or not one for each process.
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
        device = _own(device)
    try:
        if device.index is not None and device.type == _accelerator():
            torch.accelerator.set_device_index(device.index)
        float(torch.ones(1, device=device))
    except (RuntimeError, AssertionError) as error:
        reason = lack_of_memory(error)
        if reason is None:
            raise _no_such(str(device), error) from error
        raise WorkError(
            f"--device {device}: its memory is full ({reason}): free some of it, or take another"
        ) from error
    return device


def _accelerator() -> str | None:
    """The kind of accelerator that this machine has, if torch can use it."""
    if not torch.accelerator.is_available():
        return None
    found = torch.accelerator.current_accelerator()
    return found.type if found is not None and found.type in _ACCELERATORS else None


def _own(device: torch.device) -> torch.device:
    """The accelerator of this process, where its job has several."""
    if launch.world_size() == 1:
        return device
    if device.type == "mps":
        raise RequestError("--device mps serves one process: start without torchrun, or take cpu")
    beside = launch.local_world_size()
    if device.index is not None:
        if beside > 1:
            raise RequestError(
                f"--device {device} is one device for the {beside} processes of this machine: take"
                f" {device.type}, which gives each its own"
            )
        return device
    if device.type == _accelerator() and beside > (count := torch.accelerator.device_count()):
        raise RequestError(
            f"--device {device}: {beside} processes on this machine and {count} such devices: start"
            f" {count}, or take --device cpu"
        )
    return torch.device(device.type, launch.local_rank())


def _no_such(name: str, error: BaseException | None) -> RequestError:
    here = ["auto", "cpu"]
    if (kind := _accelerator()) is not None:
        here += [kind] if kind == "mps" else [kind, f"{kind}:N"]
    why = "" if error is None else f" ({reason_of(error)})"
    listed = f"{', '.join(here[:-1])} or {here[-1]}"
    return RequestError(f"--device {name}: no such device here{why}; take {listed}")


def describe_device(device: torch.device) -> str:
    """A device as figures are quoted with it: `cpu`, `cuda:0 (NVIDIA H200)`."""
    named = getattr(torch.get_device_module(device), "get_device_name", None)
    return str(device) if named is None else f"{device} ({named(device)})"


def settles(device: torch.device, seconds: float = _GRACE_SECONDS) -> bool:
    """Whether a device comes to the end of all that it was asked to do, within some time.

    A sum over processes of which one has died never ends on a GPU, and whatever reads a result then
    waits for ever: this does not.
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
    """Let float32 mean float32: torch rounds the factors of a GPU's convolutions to TF32's 10 bits.

    Also a decorator.
    """
    cudnn: Any = torch.backends.cudnn
    kept = (cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul)
    before = [kind.fp32_precision for kind in kept]
    # By its older name: torch's own compiler reads that, and refuses to where only newer ones say.
    cudnn.allow_tf32 = False
    if before[-1] == "tf32":
        kept[-1].fp32_precision = "ieee"
    try:
        yield
    finally:
        cudnn.allow_tf32 = before[0] == "tf32"
        for kind, precision in zip(kept, before, strict=True):
            kind.fp32_precision = precision


def move_to(module: nn.Module, device: torch.device, channels_last: bool) -> nn.Module:
    """Move a root network to its device and memory format, before any view is made."""
    module.to(device)
    if channels_last:
        module.to(memory_format=torch.channels_last)
    return module
