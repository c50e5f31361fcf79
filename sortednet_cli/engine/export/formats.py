"""Other file formats of an artifact: ONNX and torch.export, checked before they count."""

from __future__ import annotations

import importlib.util
import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sortednet_cli.errors import RequestError, WorkError
from sortednet_cli.storage.files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

ONNX_TOLERANCE = 1e-4

_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

Exporter: TypeAlias = "Callable[[nn.Module, Tensor, Tensor, Path], None]"
"""Writes (module, inputs, its logits) into a folder; raises if the file is not the same."""


def export(file_format: str, kind: str) -> Exporter | None:
    """Return what writes a format beside the safetensors file; None for safetensors alone.

    Raises:
        RequestError: as `check_format`.
    """
    check_format(file_format, kind)
    return {"onnx": _export_onnx, "pt2": _export_pt2}.get(file_format)


def check_format(file_format: str, kind: str) -> None:
    """RequestError if a model cannot have this format, or a package for it is missing.

    Needs no torch.

    Args:
        kind: of the model's inputs, `image` or `text`.
    """
    if file_format != "safetensors" and kind != "image":
        raise RequestError(
            f"--format {file_format} is for image models; a text model is an ordinary"
            " transformers folder, for which transformers' own exporters are made"
        )
    if file_format == "onnx":
        missing = [name for name in _ONNX_PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise RequestError("--format onnx needs: pip install 'sortednet-cli[onnx]'")


def _export_onnx(module: nn.Module, inputs: Tensor, logits: Tensor, folder: Path) -> None:
    """Write `model.onnx` with a free batch size, and run it in onnxruntime."""
    import onnxruntime
    import torch

    file = folder / "model.onnx"
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module,
            (inputs,),
            input_names=["inputs"],
            output_names=["logits"],
            dynamic_shapes=({0: batch},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    # Written here: what a full disk makes the exporters raise is theirs.
    write_bytes(file, program.model_proto.SerializeToString())
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"inputs": inputs.numpy()})
    difference = float((torch.from_numpy(found) - logits).abs().max())
    if difference > ONNX_TOLERANCE * max(1.0, float(logits.abs().max())):
        raise WorkError(f"verification failed: ONNX outputs differ by {difference:g}")


def _export_pt2(module: nn.Module, inputs: Tensor, logits: Tensor, folder: Path) -> None:
    """Write `model.pt2` with a free batch size, and run the exported program."""
    import torch

    shapes = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(module, (inputs,), dynamic_shapes=shapes)
    content = io.BytesIO()
    torch.export.save(program, content)
    write_bytes(folder / "model.pt2", content.getvalue())
    if not torch.equal(program.module()(inputs), logits):
        raise WorkError("verification failed: the exported program's outputs differ")
