"""Further file formats of an artifact, one module each. No torch.

To add one, write a subclass of `Format` and name it in `FORMATS`, or register it in another package
as an entry point of the group `sortednet.formats`.
"""

from __future__ import annotations

from sortednet_cli import extensions
from sortednet_cli.engine.export.formats.base import Exported, Format
from sortednet_cli.errors import RequestError, listed, suggestion
from sortednet_cli.extensions import Registry

__all__ = ["DEFAULT_FORMAT", "Exported", "Format", "find_format", "format_names", "own_formats"]

DEFAULT_FORMAT = "safetensors"
"""The value of `--format` for an artifact without a further file."""

FORMATS = Registry(
    extensions.FORMATS,
    "format",
    "--format",
    {
        "onnx": "sortednet_cli.engine.export.formats.onnx:Onnx",
        "onnx-int8": "sortednet_cli.engine.export.formats.onnx_int8:OnnxInt8",
        "pt2": "sortednet_cli.engine.export.formats.pt2:Pt2",
        "openvino": "sortednet_cli.engine.export.formats.openvino:OpenVino",
        "executorch": "sortednet_cli.engine.export.formats.executorch:ExecuTorch",
        "litert": "sortednet_cli.engine.export.formats.litert:LiteRt",
        "coreml": "sortednet_cli.engine.export.formats.coreml:CoreMl",
        "torchao-int8": "sortednet_cli.engine.export.formats.torchao_int8:TorchAoInt8",
    },
)


def format_names() -> list[str]:
    """List the values of `--format`."""
    return list(dict.fromkeys([DEFAULT_FORMAT, *FORMATS.names()]))


def own_formats() -> list[str]:
    """List this package's own formats besides `DEFAULT_FORMAT`."""
    return list(FORMATS.own)


def find_format(name: str) -> Format | None:
    """Find a further format by its name; None for safetensors alone.

    Raises:
        RequestError: there is no such format.
    """
    if name == DEFAULT_FORMAT:
        return None
    if name not in FORMATS.names():
        hint = suggestion(name, format_names())
        raise RequestError(f"--format {name!r}{hint}: the formats are {listed(format_names())}")
    kind: type[Format] = FORMATS.load(name, Format)
    with FORMATS.making(name):
        return kind()
