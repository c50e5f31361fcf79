"""File formats that an artifact can have beside safetensors: one file each. No torch.

To add one, write a subclass of `Format` and name it in `_OWN`, or in another package as an entry
point of the group `sortednet.formats`.
"""

from __future__ import annotations

from sortednet_cli.engine.export.formats.base import Format
from sortednet_cli.engine.export.formats.onnx import Onnx
from sortednet_cli.engine.export.formats.pt2 import Pt2
from sortednet_cli.errors import RequestError, listed
from sortednet_cli.extensions import FORMATS, Registry

__all__ = ["DEFAULT_FORMAT", "Format", "find_format", "format_names"]

DEFAULT_FORMAT = "safetensors"
"""What `--format` calls an artifact with no further file of its weights."""

_OWN: tuple[type[Format], ...] = (Onnx, Pt2)

_REGISTRY = Registry[Format](FORMATS, Format, {made.name: made for made in _OWN})  # type: ignore[type-abstract]


def format_names() -> list[str]:
    """List what `--format` takes."""
    return [DEFAULT_FORMAT, *_REGISTRY.names]


def find_format(name: str) -> Format | None:
    """The format of that name, None for safetensors alone; RequestError if there is none."""
    if name == DEFAULT_FORMAT:
        return None
    if (found := _REGISTRY.find(name)) is None:
        raise RequestError(f"--format {name!r}: the formats are {listed(format_names())}")
    return found
