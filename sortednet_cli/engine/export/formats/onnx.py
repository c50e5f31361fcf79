"""`model.onnx`, for ONNX Runtime and other readers of ONNX."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sortednet_cli.engine.export.formats.traced import TracedFormat
from sortednet_cli.errors import install_line
from sortednet_cli.storage.files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sortednet_cli.engine.export.formats.base import Run
    from sortednet_cli.families import Inputs


class Onnx(TracedFormat):
    """ONNX, verified in ONNX Runtime on the CPU, whose kernels round differently from torch's."""

    name = "onnx"
    card = "is for ONNX Runtime and other readers of ONNX."
    runtime = "onnxruntime"
    tolerance = 1e-4
    packages = ("onnx", "onnxscript", "onnxruntime")
    install = install_line("onnx")

    def write(self, module: nn.Module, inputs: Inputs, file: Path) -> None:
        # Not written by the exporter, whose error for a full disk would not be an OSError.
        write_bytes(file, onnx_program(module, self.arguments(inputs)).SerializeToString())

    def open(self, file: Path, threads: int = 1) -> Run:
        import onnxruntime
        import torch

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )

        def run(inputs: Inputs) -> Tensor:
            named = inputs if isinstance(inputs, dict) else {"inputs": inputs}
            arrays = {name: tensor.numpy() for name, tensor in named.items()}
            (logits,) = session.run(None, arrays)
            return torch.from_numpy(logits)

        return run


def onnx_program(module: nn.Module, arguments: dict[str, Any]) -> Any:
    """Convert a module to an ONNX `ModelProto`, with the output `logits`.

    Args:
        arguments: of torch's exporters, as `TracedFormat.arguments` makes them.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module,
            **arguments,
            input_names=list(arguments["kwargs"]) or ["inputs"],
            output_names=["logits"],
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto
