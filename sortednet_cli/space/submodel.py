"""A sub-model: one value for each axis, in a stable order of axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_SHORT_NAMES = {"width": "w", "depth": "d", "heads": "h", "ffn": "f", "hidden": "c"}
_AXIS_ORDER = tuple(_SHORT_NAMES)


@dataclass(frozen=True)
class SubModel:
    """One point of a search space: hashable, and partially ordered by nesting.

    `a <= b` means that every value of `a` is at most that of `b`, so the weights of `a` are part
    of the weights of `b`. Two sub-models may be unordered: one wider, the other deeper.
    """

    values: tuple[tuple[str, int | float], ...]

    @classmethod
    def of(cls, axes: Mapping[str, int | float]) -> SubModel:
        """Make a sub-model from axis values in any order."""
        return cls(tuple(sorted(axes.items(), key=lambda item: axis_rank(item[0]))))

    @property
    def axes(self) -> dict[str, int | float]:
        return dict(self.values)

    @property
    def name(self) -> str:
        """The stable string form, such as `w0.5-d8`."""
        return "-".join(f"{_SHORT_NAMES.get(axis, axis)}{value:g}" for axis, value in self.values)

    def __le__(self, other: SubModel) -> bool:
        if self.axes.keys() != other.axes.keys():
            return False
        return all(value <= other.axes[axis] for axis, value in self.values)

    def __str__(self) -> str:
        return self.name


def without_depth(submodel: SubModel) -> tuple[tuple[str, int | float], ...]:
    """A sub-model's values on all axes except depth; sub-models equal in these can share a pass."""
    return tuple((axis, value) for axis, value in submodel.values if axis != "depth")


def axis_rank(axis: str) -> tuple[int, str]:
    """Sort key: standard axes first, then the axes of custom families by name."""
    rank = _AXIS_ORDER.index(axis) if axis in _AXIS_ORDER else len(_AXIS_ORDER)
    return rank, axis
