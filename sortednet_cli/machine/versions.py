"""The versions that figures must be quoted with."""

from __future__ import annotations

import platform
from importlib.metadata import version


def versions() -> dict[str, str]:
    """Versions that a figure of this run must be quoted with."""
    packages = ("sortednet-cli", "torch", "torchvision", "transformers", "safetensors")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
