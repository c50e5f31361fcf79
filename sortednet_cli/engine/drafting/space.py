"""The search space of a first spec: widths and depths that the family accepts."""

from __future__ import annotations

from collections.abc import Callable

from sortednet_cli.errors import RequestError
from sortednet_cli.families import Family
from sortednet_cli.logs import logger
from sortednet_cli.nesting import check_fused, check_space
from sortednet_cli.space import SearchSpace, SubModel

_WIDTHS = (0.75, 0.5, 0.25)
"""Widths to come near to, besides 1."""
_NEAR = 0.125
_MOST_PARTS = 32
_NUM_DEPTHS = 4

Axes = dict[str, list[int | float]]


def choose_space(family: Family, axes: tuple[str, ...]) -> Axes:
    """Choose up to four widths and four depths, all of which give networks of their own.

    An axis that has no values besides the largest is left out, and the log says why.

    Args:
        axes: the axes that the family has.

    Raises:
        RequestError: there is nothing to cut.
    """
    finders = {"width": _widths, "depth": _depths}
    found = {axis: find(family) for axis, find in finders.items() if axis in axes}
    space = {axis: values for axis, (values, _) in found.items() if len(values) > 1}
    why = [f"{axis}: {found[axis][1]}" for axis in found.keys() - space.keys()]
    if not space:
        raise RequestError(f"nothing of this network can be cut: {'; '.join(sorted(why))}")
    for reason in why:
        logger.warning("left out of the search space: %s", reason)
    return space


def _widths(family: Family) -> tuple[list[int | float], str]:
    """Return the widths, and the reason of the first refusal; empty if there was none."""
    fractions = sorted({round(k / n, 7) for n in range(2, _MOST_PARTS + 1) for k in range(1, n)})
    refusals = {width: _not_shrunk(family, "width", width) for width in fractions}
    chosen: list[int | float] = [1]
    reason = refusals[0.5]
    for wanted in _WIDTHS:
        near = [w for w in fractions if abs(w - wanted) <= _NEAR and w < chosen[0]]
        legal = [width for width in near if not refusals[width]]
        for width in sorted(legal, key=lambda w: (round(abs(w - wanted), 6), abs(w - 0.5)))[:3]:
            if not (found := _refused(family, {"width": [width, *chosen]})):
                chosen.insert(0, width)
                break
            reason = reason or found
    return chosen, reason


def _depths(family: Family) -> tuple[list[int | float], str]:
    """Return the depths, and why there are no others than the largest."""
    most = max(1, family.max_depth)
    refusals = {depth: _not_shrunk(family, "depth", depth) for depth in range(1, most + 1)}
    legal = [depth for depth in refusals if not refusals[depth]]
    if len(legal) < 2:
        return [most], next(filter(None, refusals.values()), "there is only one block")
    least = max(legal[0], round(most / _NUM_DEPTHS))
    steps = [step / (_NUM_DEPTHS - 1) for step in range(_NUM_DEPTHS)]
    depths: list[int | float] = sorted({round(least + (most - least) * step) for step in steps})
    reason = _refused(family, {"depth": depths})
    return ([most] if reason else depths), reason


def _not_shrunk(family: Family, axis: str, value: int | float) -> str:
    return _refusal(lambda: family.shrink(SubModel.of({axis: value})))


def _refused(family: Family, axes: Axes) -> str:
    """Say why sub-models cannot be trained; empty if they can."""
    space = SearchSpace.of(axes)

    def check() -> None:
        check_space(family, space)
        if not family.declares_fused:
            check_fused(family, space)

    return _refusal(check)


def _refusal(check: Callable[[], object]) -> str:
    try:
        check()
    except RequestError as error:
        return str(error)
    return ""
