"""Norms of each width's own: affine vectors that sub-models of other widths do not share.

Slimmable networks (arXiv 1812.08928) keep a normalisation layer for each width. Here the largest
width has the vectors of the root, and every other one has its own beside them, such as
`norm.weight@w0.5`: a plan names these instead of a leading slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from torch import nn

from sortednet_cli.nesting.slices import TensorSlice
from sortednet_cli.space import SearchSpace, SubModel

Slices = Mapping[str, TensorSlice]


@dataclass(frozen=True)
class OwnNorms:
    """The affine vectors that some widths have for themselves; none if all widths share theirs.

    Attributes:
        axes: the axes that scale any norm, with their values. Sub-models that differ in these share
            no norm, not even one that has the same size in all of them.
        shared: the names of the root's vectors.
        vectors: the vectors beside the root's by name, each with the slice of a root's vector that
            it starts from.
    """

    axes: Mapping[str, tuple[int | float, ...]] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    vectors: Slices = field(default_factory=dict)

    def name(self, vector: str, submodel: SubModel) -> str:
        """Name what a sub-model has for one of the root's vectors: that, or its own."""
        largest = {axis: max(values) for axis, values in self.axes.items()}
        own = {axis: submodel.axes.get(axis, value) for axis, value in largest.items()}
        if vector not in self.shared or own == largest:
            return vector
        return f"{vector}@{SubModel.of(own)}"

    def put_into(self, slices: Slices, submodel: SubModel) -> dict[str, TensorSlice]:
        """Replace the shared vectors in the slices of a sub-model by its own."""
        return {
            name: piece
            if (own := self.name(piece.source, submodel)) == piece.source
            else TensorSlice.leading(own, piece.shape)
            for name, piece in slices.items()
        }

    def space_within(self, space: SearchSpace, outer: SubModel) -> SearchSpace:
        """Return the sub-models that can be cut from `outer`: it holds no other width's vectors."""
        axes = space.nested_in(outer).as_lists()
        return SearchSpace.of({**axes, **{axis: [outer.axes[axis]] for axis in self.axes}})


def find_own_norms(
    values: Mapping[str, tuple[int | float, ...]], shared: Callable[[SubModel], Slices]
) -> OwnNorms:
    """Find which axes scale norms, and the vectors that their values have.

    Args:
        values: the values of each axis but depth.
        shared: returns the slices of the root's norms that a sub-model of full depth has, by the
            vector's name in the root.
    """
    axes = {
        axis: own
        for axis, own in values.items()
        if shared(SubModel.of({axis: min(own)})) != shared(SubModel.of({axis: max(own)}))
    }
    if not axes:
        return OwnNorms()
    space = SearchSpace.of(axes)
    norms = OwnNorms(axes, frozenset(shared(space.largest)))
    named = {
        norms.name(vector, submodel): piece
        for submodel in space.submodels
        for vector, piece in shared(submodel).items()
    }
    vectors = {name: piece for name, piece in named.items() if name != piece.source}
    return OwnNorms(axes, norms.shared, vectors)


def norm_vectors(module: nn.Module) -> Iterator[str]:
    """Yield the names of the weights and biases of a module's normalisation layers.

    Those are layers whose class has "norm" in its name, such as `BatchNorm2d` or `LlamaRMSNorm`,
    and whose parameters are all vectors.
    """
    for path, layer in module.named_modules():
        own = dict(layer.named_parameters(recurse=False))
        if "norm" in type(layer).__name__.lower() and all(p.dim() == 1 for p in own.values()):
            yield from (f"{path}.{name}" if path else name for name in own)
