"""`model.pt2`, a program of `torch.export`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from sortednet_cli.engine.export.formats.traced import TracedFormat
from sortednet_cli.storage.files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sortednet_cli.families import Inputs


class Pt2(TracedFormat):
    """A program of `torch.export`. Verification runs the program itself and loads no file."""

    name = "pt2"
    card = "is for `torch.export.load(...).module()`, with a free batch size."

    def write(self, module: nn.Module, inputs: Inputs, file: Path) -> Tensor:
        import torch

        program = torch.export.export(module, **self.arguments(inputs))
        content = io.BytesIO()
        torch.export.save(program, content)
        write_bytes(file, content.getvalue())
        logits: Tensor = program.module()(inputs)
        return logits
