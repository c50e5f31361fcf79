"""The base class of formats that trace a model with `torch.export`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sortednet_cli.engine.export.formats.base import Format

if TYPE_CHECKING:
    from sortednet_cli.families import Inputs


class TracedFormat(Format):
    """A format for models with one input tensor, whose batch size stays free."""

    def refusal(self, kind: str) -> str | None:
        if kind == "image":
            return None
        return (
            "for image models only; use transformers' own exporters for a text model, whose"
            " artifact is an ordinary transformers folder"
        )

    @staticmethod
    def arguments(inputs: Inputs) -> dict[str, Any]:
        """Return the arguments that torch's exporters take besides the module."""
        import torch

        shapes = ({0: torch.export.Dim("batch", min=1)},)
        return {"args": (inputs,), "kwargs": {}, "dynamic_shapes": shapes}
