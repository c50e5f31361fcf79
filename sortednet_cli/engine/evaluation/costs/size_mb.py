"""Size of an artifact's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sortednet_cli.engine.evaluation.costs.base import ComputedCost
from sortednet_cli.space import SubModel

if TYPE_CHECKING:
    from sortednet_cli.engine.sources.source import Source


class SizeMb(ComputedCost):
    """Bytes of the tensors in the artifact's `model.safetensors`, in units of 10^6.

    Weights are float32, as training stores them. Normalisation statistics count, tied tensors
    count once. The file's header, of a few kilobytes, and the artifact's other files do not count.
    """

    name = "size_mb"
    unit = "MB"
    units = "megabytes"
    label = "size of the weights, MB"
    help = "Budget in megabytes (10^6 bytes) of model.safetensors."

    def compute(self, source: Source, submodel: SubModel) -> float:
        from sortednet_cli.nesting import build_skeleton, stored_tensors

        skeleton = build_skeleton(source.family, source.family.shrink(submodel))
        return sum(tensor.nbytes for tensor in stored_tensors(skeleton).values()) / 1e6
