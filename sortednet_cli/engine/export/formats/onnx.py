"""`model.onnx`, for ONNX Runtime and other readers of ONNX."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from sortednet_cli.engine.export.formats.traced import TracedFormat
from sortednet_cli.storage.files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sortednet_cli.families import Inputs


class Onnx(TracedFormat):
    """ONNX, verified in ONNX Runtime on the CPU, whose kernels round differently from torch's."""

    name = "onnx"
    card = "has the input `inputs`, the output `logits` and a free batch size."
    tolerance = 1e-4
    packages = ("onnx", "onnxscript", "onnxruntime")
    install = "pip install 'sortednet-cli[onnx]'"

    def write(self, module: nn.Module, inputs: Inputs, file: Path) -> Tensor:
        import onnxruntime
        import torch

        assert isinstance(inputs, torch.Tensor)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            program = torch.onnx.export(
                module,
                **self.arguments(inputs),
                input_names=["inputs"],
                output_names=["logits"],
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        # Not written by the exporter, whose error for a full disk would not be an OSError.
        write_bytes(file, program.model_proto.SerializeToString())
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        (logits,) = session.run(None, {"inputs": inputs.numpy()})
        return torch.from_numpy(logits)
