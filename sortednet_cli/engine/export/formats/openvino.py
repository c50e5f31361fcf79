"""`model.xml` and `model.bin`, for OpenVINO on Intel's and ARM's processors."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sortednet_cli.engine.export.formats.onnx import onnx_program
from sortednet_cli.engine.export.formats.traced import TracedFormat
from sortednet_cli.errors import install_line
from sortednet_cli.storage.artifact import EXPORTED
from sortednet_cli.storage.files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sortednet_cli.engine.export.formats.base import Run
    from sortednet_cli.families import Inputs


class OpenVino(TracedFormat):
    """OpenVINO's own files, converted from ONNX, with the weights in float32."""

    name = "openvino"
    card = "is for OpenVINO, together with `model.bin`."
    runtime = "openvino"
    tolerance = 1e-4
    packages = ("openvino", "onnx", "onnxscript")
    install = install_line("openvino")

    @property
    def file(self) -> str:
        return f"{EXPORTED}.xml"

    def files(self, folder: Path) -> list[Path]:
        return [folder / self.file, folder / f"{EXPORTED}.bin"]

    def write(self, module: nn.Module, inputs: Inputs, file: Path) -> None:
        import openvino

        program = onnx_program(module, self.arguments(inputs)).SerializeToString()
        # Read by the core alone: OpenVINO's converter would report its use to its makers.
        model = openvino.Core().read_model(program, b"")
        with tempfile.TemporaryDirectory() as folder:
            openvino.save_model(model, Path(folder) / file.name, compress_to_fp16=False)
            for written, target in zip(
                self.files(Path(folder)), self.files(file.parent), strict=True
            ):
                write_bytes(target, written.read_bytes())

    def open(self, file: Path, threads: int = 1) -> Run:
        import openvino
        import torch

        # By default it computes in bfloat16 where the processor can.
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        compiled = openvino.Core().compile_model(file, "CPU", options)

        def run(inputs: Inputs) -> Tensor:
            named = inputs if isinstance(inputs, dict) else {"inputs": inputs}
            logits = compiled({name: tensor.numpy() for name, tensor in named.items()})[0]
            return torch.from_numpy(logits.copy())

        return run
