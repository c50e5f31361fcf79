"""What a command runs on: its device, and the versions that figures must be quoted with."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch

from sortednet_cli import launch
from sortednet_cli.errors import RequestError


def versions() -> dict[str, str]:
    """Versions that a figure of this run must be quoted with."""
    packages = ("sortednet-cli", "torch", "torchvision", "transformers", "safetensors")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def choose_device(name: str) -> torch.device:
    """Resolve `auto`, `cpu`, `cuda`, `cuda:1`; RequestError if there is no such device.

    Of several processes each takes a GPU of its own.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and launch.world_size() > 1:
        name = f"cuda:{launch.local_rank()}"
    try:
        device = torch.device(name)
        float(torch.ones(1, device=device))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        here = "auto, cpu, cuda or cuda:N" if torch.cuda.is_available() else "auto or cpu"
        raise RequestError(
            f"--device {name}: no such device here ({reason}); take {here}"
        ) from error
    return device
