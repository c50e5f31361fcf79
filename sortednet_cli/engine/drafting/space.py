"""The search space of a first spec: widths and depths that the family accepts."""

from __future__ import annotations

from contextlib import suppress

from sortednet_cli.errors import RequestError
from sortednet_cli.families import Family
from sortednet_cli.nesting import check_space
from sortednet_cli.space import SearchSpace, SubModel

_WIDTHS = (0.75, 0.5, 0.25)
"""Widths to come near to, besides 1."""
_NEAR = 0.125
_MOST_PARTS = 32
_NUM_DEPTHS = 4

Axes = dict[str, list[int | float]]


def choose_space(family: Family, axes: tuple[str, ...]) -> Axes:
    """Choose up to four widths and four depths, all of which give networks of their own.

    Args:
        axes: the axes that the family has.

    Raises:
        RequestError: there is nothing to cut.
    """
    space: Axes = {}
    if "width" in axes:
        space["width"] = _widths(family)
    if "depth" in axes and family.max_depth > 1:
        space["depth"] = _depths(family, family.max_depth)
    space = {axis: values for axis, values in space.items() if len(values) > 1}
    if not space:
        raise RequestError(
            f"{family.root.family}: no width and no depth of this network can be cut"
        )
    return space


def _widths(family: Family) -> list[int | float]:
    fractions = {k / n for n in range(2, _MOST_PARTS + 1) for k in range(1, n)}
    legal = [w for w in sorted(round(f, 7) for f in fractions) if _shrinks(family, w)]
    chosen: list[int | float] = [1]
    for wanted in _WIDTHS:
        near = [width for width in legal if abs(width - wanted) <= _NEAR and width not in chosen]
        for width in sorted(near, key=lambda width: abs(width - wanted))[:3]:
            if _is_space(family, {"width": [width, *chosen]}):
                chosen = [width, *chosen]
                break
    return sorted(chosen)


def _depths(family: Family, most: int) -> list[int | float]:
    least = next(
        (d for d in range(1, most + 1) if _is_space(family, {"depth": [d]})),
        most,
    )
    least = max(least, round(most / _NUM_DEPTHS))
    steps = range(_NUM_DEPTHS)
    return sorted({round(least + (most - least) * step / (_NUM_DEPTHS - 1)) for step in steps})


def _shrinks(family: Family, width: float) -> bool:
    with suppress(RequestError):
        family.shrink(SubModel.of({"width": width}))
        return True
    return False


def _is_space(family: Family, axes: Axes) -> bool:
    with suppress(RequestError):
        check_space(family, SearchSpace.of(axes))
        return True
    return False
