"""`model.onnx` in 8-bit integers."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sortednet_cli.engine.export.formats.base import Exported
from sortednet_cli.engine.export.formats.lossy import measured
from sortednet_cli.engine.export.formats.onnx import Onnx, onnx_program
from sortednet_cli.storage.artifact import EXPORTED
from sortednet_cli.storage.files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sortednet_cli.families import Inputs

_BATCH = 32

_OPERATIONS = ["Conv", "Gemm", "MatMul", "Relu", "Clip"]
"""What computes in integers in image models: sums and norms keep floats, where rounding costs
most."""

_OPTIONS = {"per_channel": True, "reduce_range": True}
"""Each output channel has its own scale. Weights have 7 bits, because sums of full 8-bit products
overflow on x86 processors without VNNI, and the file would then compute other logits there."""


class OnnxInt8(Onnx):
    """ONNX with quantised weights.

    Ranges of activations come from training images (static quantisation); for texts they are
    computed anew in each pass (dynamic quantisation). The tolerance only tells a working file from
    a broken one: how good it is, its score says.
    """

    name = "onnx-int8"
    card = "is for ONNX Runtime, quantised to 8-bit integers."
    tolerance = 0.25
    lossy = True

    @property
    def file(self) -> str:
        return f"{EXPORTED}.onnx"

    def description(self, exported: Exported) -> str:
        return f"{super().description(exported)} {measured(exported)}"

    def write(self, module: nn.Module, inputs: Inputs, file: Path) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static

        program = onnx_program(module, self.arguments(inputs))
        with _without_advice(), tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / file.name
            if isinstance(inputs, dict):
                quantize_dynamic(program, written, weight_type=QuantType.QInt8, **_OPTIONS)
            else:
                images = _reader(inputs)
                quantize_static(
                    program, written, images, op_types_to_quantize=_OPERATIONS, **_OPTIONS
                )
            content = written.read_bytes()
        write_bytes(file, content)


def _reader(images: Tensor) -> Any:
    """Make what reads calibration images batch by batch."""
    import torch
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(torch.split(images, _BATCH))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"inputs": batch.numpy()}

    return Reader()


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keep the quantiser from logging advice for its own callers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
