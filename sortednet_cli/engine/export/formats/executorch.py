"""`model.pte`, for ExecuTorch on phones and other small devices."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sortednet_cli.engine.export.formats.base import Exported, Format
from sortednet_cli.errors import install_line
from sortednet_cli.storage.artifact import EXPORTED
from sortednet_cli.storage.files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sortednet_cli.engine.export.formats.base import Run
    from sortednet_cli.families import Inputs

MAX_SAMPLES = 8
MAX_TOKENS = 512
"""ExecuTorch plans memory for the largest input ahead, so both need a bound."""


class ExecuTorch(Format):
    """A program of ExecuTorch, whose operations XNNPACK computes where it can."""

    name = "executorch"
    card = "is for ExecuTorch, with the kernels of XNNPACK."
    runtime = "executorch"
    tolerance = 1e-4
    packages = ("executorch",)
    install = install_line("executorch")

    @property
    def file(self) -> str:
        return f"{EXPORTED}.pte"

    def description(self, exported: Exported) -> str:
        names = " and ".join(f"`{name}`" for name in exported.inputs)
        length = "" if exported.inputs == ("inputs",) else f", texts of at most {MAX_TOKENS} tokens"
        return (
            f"{self.card} Its method `forward` takes {names} of at most {MAX_SAMPLES} samples"
            f"{length}."
        )

    def write(self, module: nn.Module, inputs: Inputs, file: Path) -> None:
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import (
                XnnpackPartitioner,
            )
            from executorch.exir import to_edge_transform_and_lower

            program = torch.export.export(module, **_arguments(module, inputs))
            edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            write_bytes(file, edge.to_executorch().buffer)

    def open(self, file: Path, threads: int = 1) -> Run:
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        portable_lib._unsafe_reset_threadpool(threads)
        content = file.read_bytes()
        program = Runtime.get().load_program(content)
        method = program.load_method("forward")
        held = (content, program)  # the method points into them and does not keep them

        def run(inputs: Inputs, held: Any = held) -> Tensor:
            values = list(inputs.values()) if isinstance(inputs, dict) else [inputs]
            logits: Tensor = method.execute([value.contiguous() for value in values])[0]
            return logits.clone()  # the next call overwrites it

        return run


def _arguments(module: nn.Module, inputs: Inputs) -> dict[str, Any]:
    """Return the arguments of `torch.export.export`, with bounded sizes."""
    from torch.export import Dim

    samples = Dim("samples", min=1, max=MAX_SAMPLES)
    if not isinstance(inputs, dict):
        return {"args": (inputs,), "dynamic_shapes": ({0: samples},)}
    longest = getattr(module, "max_length", None) or MAX_TOKENS
    length = Dim("length", min=1, max=min(longest, MAX_TOKENS))
    free = {name: {0: samples, 1: length} for name in inputs}
    return {"args": (), "kwargs": inputs, "dynamic_shapes": free}
