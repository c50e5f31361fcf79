"""Sub-models, search spaces, depth orders and counts."""

from __future__ import annotations

import itertools

import pytest

from sortednet_cli.errors import RequestError
from sortednet_cli.space import (
    SearchSpace,
    SubModel,
    format_count,
    kept_blocks,
    parse_count,
)

SPACE = SearchSpace.of({"depth": [8, 4.0], "width": [1.0, 0.25, 0.5]})


def test_names_are_stable_whatever_the_order_of_axes() -> None:
    assert SubModel.of({"depth": 8, "width": 0.5}).name == "w0.5-d8"
    assert SubModel.of({"zeta": 3, "heads": 2, "depth": 1}).name == "d1-h2-zeta3"


def test_nesting_is_a_partial_order() -> None:
    small, wide = SubModel.of({"width": 0.5, "depth": 4}), SubModel.of({"width": 1, "depth": 2})
    assert small <= SubModel.of(small.axes)
    assert not small <= wide
    assert not wide <= small
    assert small <= SubModel.of({"width": 1, "depth": 4})
    assert not SubModel.of({"width": 0.5}) <= small


def test_a_space_opens_from_its_smallest_along_all_axes_at_once() -> None:
    """Two depths and three widths: a depth more at a half, a width more at each third."""
    openings = [(start, space.as_lists()) for start, space in SPACE.growth_schedule()]
    assert openings == [
        (0, {"width": [0.25], "depth": [4]}),
        (pytest.approx(1 / 3), {"width": [0.25, 0.5], "depth": [4]}),
        (0.5, {"width": [0.25, 0.5], "depth": [4, 8]}),
        (pytest.approx(2 / 3), {"width": [0.25, 0.5, 1], "depth": [4, 8]}),
    ]
    lone = SearchSpace.of({"width": [1.0]})
    assert lone.growth_schedule() == [(0, lone)]


def test_space_is_the_sorted_product() -> None:
    assert len(SPACE) == 6
    assert [s.name for s in SPACE.submodels][:3] == ["w0.25-d4", "w0.25-d8", "w0.5-d4"]
    assert SPACE.largest.name == "w1-d8"
    assert SPACE.smallest.name == "w0.25-d4"
    assert all(s <= SPACE.largest and SPACE.smallest <= s for s in SPACE.submodels)


def test_resolve_fills_unnamed_axes_with_the_largest() -> None:
    assert SPACE.resolve({"width": 0.5}).name == "w0.5-d8"
    assert SPACE.resolve({}) == SPACE.largest


@pytest.mark.parametrize(
    ("axes", "message"),
    [({"width": 0.3}, "0.25, 0.5, 1"), ({"depth": 9}, "4, 8"), ({"heads": 2}, "width, depth")],
)
def test_resolve_lists_legal_values(axes: dict[str, float], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        SPACE.resolve(axes)


def test_nested_in_keeps_what_fits() -> None:
    inner = SPACE.nested_in(SubModel.of({"width": 0.5, "depth": 4}))
    assert [s.name for s in inner.submodels] == ["w0.25-d4", "w0.5-d4"]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("prefix", [(3, 3, 2), (3, 3, 1), (3, 3, 0), (3, 2, 0), (3, 1, 0), (3, 0, 0)]),
        ("late-first", [(3, 3, 2), (3, 3, 1), (3, 2, 1), (3, 1, 1), (2, 1, 1), (1, 1, 1)]),
        ("balanced", [(3, 3, 2), (3, 2, 2), (2, 2, 2), (2, 2, 1), (2, 1, 1), (1, 1, 1)]),
    ],
)
def test_depth_orders(order: str, expected: list[tuple[int, ...]]) -> None:
    assert [kept_blocks([3, 3, 3], depth, order) for depth in range(8, 2, -1)] == expected


@pytest.mark.parametrize("order", ["prefix", "late-first", "balanced"])
@pytest.mark.parametrize("stages", [[3, 4, 6, 3], [1, 2, 3, 4, 3, 3, 1], [8]])
def test_each_depth_is_contained_in_the_next(order: str, stages: list[int]) -> None:
    least = 1 if order == "prefix" else len(stages)
    kept = [kept_blocks(stages, depth, order) for depth in range(least, sum(stages) + 1)]
    assert kept[-1] == tuple(stages)
    for depth, (smaller, larger) in enumerate(itertools.pairwise(kept), start=least):
        assert sum(smaller) == depth
        assert all(a <= b for a, b in zip(smaller, larger, strict=True))


@pytest.mark.parametrize(("order", "depth"), [("late-first", 2), ("prefix", 0), ("balanced", 10)])
def test_a_depth_out_of_range_says_the_range(order: str, depth: int) -> None:
    with pytest.raises(RequestError, match=r"depths [13] to 9"):
        kept_blocks([3, 3, 3], depth, order)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("50000", 50_000),
        ("200k", 200_000),
        ("1.5M", 1_500_000),
        ("2G", 2_000_000_000),
        ("1e3", 1000),
    ],
)
def test_counts(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "many", "-5", "0", "1.5X", "1.2.3", "k"])
def test_bad_counts_show_how_to_write_one(text: str) -> None:
    with pytest.raises(RequestError, match="200k"):
        parse_count(text)


def test_format_count_is_read_back() -> None:
    for count in (7, 999, 50_000, 1_500_000, 2_000_000_000):
        assert parse_count(format_count(count)) == count
