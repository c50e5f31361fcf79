"""The layer table of every sub-model, stored compactly.

Sub-models share most names and slices, so each is written once and referred to by its number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sortednet_cli.engine.sources.source import Source
from sortednet_cli.space import SubModel


def layer_tables(
    source: Source, submodels: Sequence[SubModel], report: Callable[[int, SubModel], None]
) -> dict[str, Any]:
    """Make the slice plans of sub-models, as `info --plan` prints them.

    Args:
        report: called after each sub-model with the number of those done.

    Returns:
        `slices` lists distinct slices and `names` distinct lists of tensors. `plans` has for each
        sub-model the number of its list of tensors, and the numbers of the slices of the first
        ones. The tensors after those are statistics of its own.
    """
    names: dict[tuple[str, ...], int] = {}
    slices: dict[str, int] = {}
    plans = []
    for done, submodel in enumerate(submodels, 1):
        plan = source.plan(submodel)
        number = names.setdefault((*plan.slices, *plan.statistics), len(names))
        pieces = [slices.setdefault(str(each), len(slices)) for each in plan.slices.values()]
        plans.append([number, pieces])
        report(done, submodel)
    return {"names": list(names), "slices": list(slices), "plans": plans}
