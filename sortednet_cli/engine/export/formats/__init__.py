"""Further file formats of an artifact, one module each. No torch.

To add one, write a subclass of `Format` and list it in `_OWN`, or register it in another package as
an entry point of the group `sortednet.formats`.
"""

from __future__ import annotations

from sortednet_cli.engine.export.formats.base import Format
from sortednet_cli.engine.export.formats.onnx import Onnx
from sortednet_cli.engine.export.formats.pt2 import Pt2
from sortednet_cli.errors import RequestError, listed
from sortednet_cli.extensions import FORMATS, Registry

__all__ = ["DEFAULT_FORMAT", "Format", "find_format", "format_names"]

DEFAULT_FORMAT = "safetensors"
"""The value of `--format` for an artifact without a further file."""

_OWN: tuple[type[Format], ...] = (Onnx, Pt2)

_REGISTRY = Registry[Format](FORMATS, Format, {own.name: own for own in _OWN})  # type: ignore[type-abstract]


def format_names() -> list[str]:
    """List the values of `--format`."""
    return [DEFAULT_FORMAT, *_REGISTRY.names]


def find_format(name: str) -> Format | None:
    """Find a further format by its name; None for safetensors alone.

    Raises:
        RequestError: there is no such format.
    """
    if name == DEFAULT_FORMAT:
        return None
    if (file_format := _REGISTRY.find(name)) is None:
        raise RequestError(f"--format {name!r}: the formats are {listed(format_names())}")
    return file_format
