"""`model.mlpackage`, for Core ML on Apple's devices."""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING

from sortednet_cli.engine.export.formats.traced import TracedFormat
from sortednet_cli.errors import install_line
from sortednet_cli.storage.artifact import EXPORTED
from sortednet_cli.storage.files import writing

if TYPE_CHECKING:
    from torch import nn

    from sortednet_cli.families import Inputs


class CoreMl(TracedFormat):
    """A Core ML program. Its outputs are not verified: only macOS can run it."""

    name = "coreml"
    card = "is for Core ML, from iOS 17 and macOS 14 on."
    runtime = "Core ML"
    packages = ("coremltools",)
    install = install_line("coreml")

    @property
    def file(self) -> str:
        return f"{EXPORTED}.mlpackage"

    def files(self, folder: Path) -> list[Path]:
        return [path for path in (folder / self.file).rglob("*") if path.is_file()]

    def refusal(self, kind: str) -> str | None:
        return None if kind == "image" else "for image models; for text models use onnx or openvino"

    def write(self, module: nn.Module, inputs: Inputs, file: Path) -> None:
        import torch

        # It shows its progress, and what it can do on macOS alone, whoever calls it.
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            logging.getLogger("coremltools").setLevel(logging.CRITICAL)
            import coremltools

            program = torch.export.export(module, **self.arguments(inputs))
            model = coremltools.convert(
                program.run_decompositions({}),
                outputs=[coremltools.TensorType(name="logits")],
                minimum_deployment_target=coremltools.target.iOS17,
                compute_precision=coremltools.precision.FLOAT32,
                skip_model_load=True,
            )
            (name,) = model.input_description
            spec = model.get_spec()
            coremltools.utils.rename_feature(spec, name, "inputs")
            named = coremltools.models.MLModel(
                spec, weights_dir=model.weights_dir, skip_model_load=True
            )
            with writing(file):
                named.save(str(file))

    def open(self, file: Path, threads: int = 1) -> None:
        return None
