"""The search space: every sub-model that a run trains."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from sortednet_cli.errors import RequestError, listed, suggestion
from sortednet_cli.space.submodel import SubModel, axis_rank

MAX_SUBMODELS = 65_536
"""Most sub-models of a search space: each is planned, costed and scored."""


@dataclass(frozen=True)
class SearchSpace:
    """A grid of axis values; the values of each axis ascend."""

    axes: tuple[tuple[str, tuple[int | float, ...]], ...]

    @classmethod
    def of(cls, axes: Mapping[str, Sequence[int | float]]) -> SearchSpace:
        """Make a search space from axis values in any order; RequestError if it is too large."""
        if (count := math.prod(map(len, axes.values()))) > MAX_SUBMODELS:
            raise RequestError(f"space: {count:,} sub-models, more than {MAX_SUBMODELS:,}")
        ordered = sorted(axes.items(), key=lambda item: axis_rank(item[0]))
        return cls(tuple((axis, tuple(sorted(map(_plain, values)))) for axis, values in ordered))

    @cached_property
    def submodels(self) -> tuple[SubModel, ...]:
        """All sub-models from the smallest to the largest; the first axis varies slowest."""
        names = [axis for axis, _ in self.axes]
        return tuple(
            SubModel(tuple(zip(names, point, strict=True)))
            for point in itertools.product(*(values for _, values in self.axes))
        )

    @cached_property
    def largest(self) -> SubModel:
        return SubModel(tuple((axis, values[-1]) for axis, values in self.axes))

    @property
    def smallest(self) -> SubModel:
        return SubModel(tuple((axis, values[0]) for axis, values in self.axes))

    @property
    def narrowest(self) -> SubModel:
        """The one of full depth that is smallest on every other axis."""
        return SubModel(
            tuple((axis, values[-1 if axis == "depth" else 0]) for axis, values in self.axes)
        )

    def __len__(self) -> int:
        return math.prod(len(values) for _, values in self.axes)

    def resolve(self, requested: Mapping[str, int | float]) -> SubModel:
        """Return the sub-model with the `requested` values and the largest on every other axis.

        Raises:
            RequestError: an axis is unknown, or a value is not in the search space; the
                message lists the legal values.
        """
        legal = dict(self.axes)
        for axis in requested:
            if axis not in legal:
                hint = suggestion(axis, legal)
                raise RequestError(f"no axis {axis!r} here{hint}; the axes are {listed(legal)}")
        chosen = {
            axis: _nearest(axis, requested[axis], values) if axis in requested else values[-1]
            for axis, values in self.axes
        }
        return SubModel(tuple(chosen.items()))

    def named(self, name: str) -> SubModel:
        """Return the sub-model with a string form; RequestError if there is none."""
        for submodel in self.submodels:
            if submodel.name == name:
                return submodel
        raise RequestError(
            f"no sub-model {name!r}; they run from {self.smallest} to {self.largest}"
        )

    def nested_in(self, outer: SubModel) -> SearchSpace:
        """Return the search space of the sub-models that can be cut from `outer`."""
        bounds = outer.axes
        return SearchSpace(
            tuple(
                (axis, tuple(v for v in values if v <= bounds[axis])) for axis, values in self.axes
            )
        )

    def growth_schedule(self) -> list[tuple[float, SearchSpace]]:
        """Grow the search space from its smallest sub-model, every axis at an even rate.

        Returns:
            Pairs (start, space): the fraction of the growth phase at which a space comes into
            use, and that space. The first, at 0, has the smallest value of each axis. An axis of n
            values gains the next one at 1/n, 2/n, ...
        """
        sizes = {len(values) for _, values in self.axes}
        starts = sorted({Fraction(k, size) for size in sizes for k in range(size)})
        return [
            (
                float(start),
                SearchSpace(tuple((axis, v[: int(start * len(v)) + 1]) for axis, v in self.axes)),
            )
            for start in starts
        ]

    def as_lists(self) -> dict[str, list[int | float]]:
        return {axis: list(values) for axis, values in self.axes}


def _plain(value: int | float) -> int | float:
    """Make whole numbers int, so that 8.0 and 8 are one value with one string form."""
    return int(value) if float(value).is_integer() else float(value)


def _nearest(axis: str, wanted: int | float, values: tuple[int | float, ...]) -> int | float:
    for value in values:
        if math.isclose(value, wanted, rel_tol=1e-6):
            return value
    raise RequestError(
        f"{axis} {wanted:g} is not in the search space; legal values are {listed(values)}"
    )
