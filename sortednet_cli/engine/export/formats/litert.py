"""`model.tflite`, for LiteRT (TensorFlow Lite)."""

from __future__ import annotations

import io
import tempfile
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from sortednet_cli.engine.export.formats.base import Exported, Format
from sortednet_cli.errors import install_line
from sortednet_cli.storage.artifact import EXPORTED
from sortednet_cli.storage.files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sortednet_cli.engine.export.formats.base import Run
    from sortednet_cli.families import Inputs


class LiteRt(Format):
    """A LiteRT model of one image at a time: its converter fixes the batch size."""

    name = "litert"
    card = "is for LiteRT."
    runtime = "litert"
    tolerance = 1e-4
    packages = ("litert_torch", "ai_edge_litert")
    install = install_line("litert")

    @property
    def file(self) -> str:
        return f"{EXPORTED}.tflite"

    def description(self, exported: Exported) -> str:
        return f"{self.card} It takes one image at a time and gives its logits."

    def refusal(self, kind: str) -> str | None:
        if kind == "image":
            return None
        return (
            "for image models, as its converter fixes the length of texts; for text models use"
            " onnx, openvino or executorch"
        )

    def write(self, module: nn.Module, inputs: Inputs, file: Path) -> None:
        import torch

        assert isinstance(inputs, torch.Tensor)
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")
            import litert_torch

            written = Path(folder) / file.name
            # It prints its progress, among what a script reads from this package.
            with redirect_stdout(io.StringIO()):
                litert_torch.convert(module, (inputs[:1],)).export(str(written))
            write_bytes(file, written.read_bytes())

    def open(self, file: Path, threads: int = 1) -> Run:
        import torch
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=file.read_bytes(), num_threads=threads)
        interpreter.allocate_tensors()
        (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()

        def run(inputs: Inputs) -> Tensor:
            assert isinstance(inputs, torch.Tensor)
            logits = []
            for image in torch.split(inputs, 1):
                interpreter.set_tensor(source["index"], image.contiguous().numpy())
                interpreter.invoke()
                logits.append(torch.from_numpy(interpreter.get_tensor(target["index"])))
            return torch.cat(logits)

        return run
