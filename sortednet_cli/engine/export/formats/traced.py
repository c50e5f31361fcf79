"""The base class of formats that trace a model with `torch.export`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sortednet_cli.engine.export.formats.base import Exported, Format

if TYPE_CHECKING:
    from sortednet_cli.families import Inputs


class TracedFormat(Format):
    """A format whose files keep the batch size free, and the length of texts."""

    def description(self, exported: Exported) -> str:
        names = " and ".join(f"`{name}`" for name in exported.inputs)
        if exported.inputs == ("inputs",):
            return f"{self.card} It has the input {names}, the output `logits`, a free batch size."
        return (
            f"{self.card} It has the inputs {names}, the output `logits`, and free batch size and"
            " length."
        )

    @staticmethod
    def arguments(inputs: Inputs) -> dict[str, Any]:
        """Return the arguments that torch's exporters take besides the module."""
        from torch.export import Dim

        if isinstance(inputs, dict):
            free = {name: {0: Dim.DYNAMIC, 1: Dim.DYNAMIC} for name in inputs}
            return {"args": (), "kwargs": inputs, "dynamic_shapes": free}
        shapes = ({0: Dim("batch", min=1)},)
        return {"args": (inputs,), "kwargs": {}, "dynamic_shapes": shapes}
