"""Library versions, to be quoted with measurements."""

from __future__ import annotations

import platform
from importlib.metadata import version


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect results."""
    packages = ("sortednet-cli", "torch", "torchvision", "transformers", "safetensors")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
