"""`model.pt2`, a program of `torch.export`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from sortednet_cli.engine.export.formats.traced import TracedFormat
from sortednet_cli.storage.files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sortednet_cli.engine.export.formats.base import Run
    from sortednet_cli.families import Inputs


class Pt2(TracedFormat):
    """A program of `torch.export`. Its file is never read, as it may hold a pickle."""

    name = "pt2"
    card = "is for `torch.export.load(...).module()`."
    runtime = "torch"

    def write(self, module: nn.Module, inputs: Inputs, file: Path) -> Run:
        import torch

        program = torch.export.export(module, **self.arguments(inputs))
        content = io.BytesIO()
        torch.export.save(program, content)
        write_bytes(file, content.getvalue())
        written = program.module()

        def run(inputs: Inputs) -> Tensor:
            logits: Tensor = written(**inputs) if isinstance(inputs, dict) else written(inputs)
            return logits

        return run

    def open(self, file: Path, threads: int = 1) -> None:
        return None
