"""Depth orders: the order in which blocks are removed, so that each depth contains smaller ones."""

from __future__ import annotations

from collections.abc import Sequence

from sortednet_cli.errors import RequestError, listed


def kept_blocks(stages: Sequence[int], depth: int, order: str) -> tuple[int, ...]:
    """Count the blocks that each stage keeps at `depth`; these are its first blocks.

    Args:
        stages: number of blocks in each stage of the root network.
        depth: total number of blocks to keep.
        order: `prefix` removes from the end of the network. `late-first` removes from the end of
            the last stage down to one block, then from the stage before. `balanced` removes from
            the ends of all stages in turn, the last stage first, down to one block a stage.

    Raises:
        RequestError: the order is unknown, or the depth is out of range.
    """
    least = 1 if order == "prefix" else len(stages)
    if not least <= depth <= sum(stages):
        raise RequestError(
            f"depth {depth} is out of range: blocks {list(stages)} in the order {order}"
            f" allow depths {least} to {sum(stages)}"
        )
    kept = list(stages)
    for stage in _removals(stages, order)[: sum(stages) - depth]:
        kept[stage] -= 1
    return tuple(kept)


def _removals(stages: Sequence[int], order: str) -> list[int]:
    """List the stage of each removed block, the first removal first."""
    backwards = list(range(len(stages) - 1, -1, -1))
    if order == "prefix":
        return [stage for stage in backwards for _ in range(stages[stage])]
    if order == "late-first":
        return [stage for stage in backwards for _ in range(stages[stage] - 1)]
    if order == "balanced":
        rounds = range(max(stages) - 1)
        return [stage for turn in rounds for stage in backwards if stages[stage] - 1 > turn]
    raise RequestError(
        f"unknown depth order {order!r}; the orders are"
        f" {listed(('prefix', 'late-first', 'balanced'))}"
    )
