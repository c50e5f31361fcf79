"""Which sub-model of a micro-batch teaches which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from sortednet_cli.rules import Share
from sortednet_cli.space import SubModel
from sortednet_cli.space.submodel import without_depth

Teacher = SubModel | Literal["fixed"]
"""A sub-model of the network in training, or the fixed teacher."""

Size = Callable[[SubModel], float]


@dataclass(frozen=True)
class Lessons:
    """What one group of sub-models learns and teaches.

    Attributes:
        pairs: each student of the group, with its teacher.
        kept: sub-models of the group that teach others than those of the group.
    """

    pairs: tuple[tuple[SubModel, Teacher], ...] = ()
    kept: tuple[SubModel, ...] = ()


def lessons_of(group: Sequence[SubModel], teaching: Mapping[SubModel, Teacher]) -> Lessons:
    """Take a group's part of who teaches whom in a micro-batch."""
    outside = {teacher for student, teacher in teaching.items() if student not in group}
    return Lessons(
        pairs=tuple((student, teaching[student]) for student in group if student in teaching),
        kept=tuple(submodel for submodel in group if submodel in outside),
    )


def all_from(teacher: Teacher, drawn: Sequence[SubModel]) -> dict[SubModel, Teacher]:
    """Let one teacher teach all sub-models but itself."""
    return {student: teacher for student in drawn if student != teacher}


def next_larger(drawn: Sequence[SubModel], size: Size) -> dict[SubModel, Teacher]:
    """Let each sub-model learn from the smallest other one drawn that contains it.

    This is the order of Scala (arXiv 2412.04786). A sub-model that no other one contains has no
    teacher.

    Args:
        size: decides between sub-models that do not contain each other.
    """
    teaching: dict[SubModel, Teacher] = {}
    for student in drawn:
        containing = [other for other in drawn if student != other and student <= other]
        if containing:
            smallest: SubModel = min(containing, key=size)
            teaching[student] = smallest
    return teaching


def larger_first(drawn: Sequence[Share]) -> list[Share]:
    """Order a draw so that every sub-model runs after those that contain it.

    Axes other than depth come first, because sub-models that differ only in depth share a pass.
    """

    def key(share: Share) -> tuple[object, float]:
        submodel, _ = share
        return without_depth(submodel), submodel.axes.get("depth", 0)

    return sorted(drawn, key=key, reverse=True)


def product_of_axes(submodel: SubModel) -> float:
    """A size that needs no model."""
    return prod(value for _, value in submodel.values)
