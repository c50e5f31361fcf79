"""What formats that torch.export traces have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sortednet_cli.engine.export.formats.base import Format

if TYPE_CHECKING:
    from sortednet_cli.families import Inputs


class TracedFormat(Format):
    """A format for models of one input tensor and any number of layers, with a free batch size."""

    def refusal(self, kind: str) -> str | None:
        if kind == "image":
            return None
        return (
            "for image models; a text model is an ordinary transformers folder, for which"
            " transformers' own exporters are made"
        )

    @staticmethod
    def arguments(inputs: Inputs) -> dict[str, Any]:
        """What the exporters of torch are called with."""
        import torch

        return {"args": (inputs,), "dynamic_shapes": ({0: torch.export.Dim("batch", min=1)},)}
