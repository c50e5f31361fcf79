"""The choice of the way to compute a product, by times that a clock of the test's own tells."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from sortednet_cli.engine.generation import products
from sortednet_cli.engine.generation.product_ways import (
    MOST_ROWS,
    STOCK,
    UNBLOCKED,
    WAYS,
    Way,
    Ways,
)
from sortednet_cli.engine.generation.products import Product, choose_ways

Costs = Callable[[Way, int], float]


def measured(cost: Costs, ways: tuple[Way, ...] = WAYS, most: int = MOST_ROWS) -> Ways:
    """Measure where a product takes `cost` seconds."""
    now = 0.0

    def run(way: Way, rows: int) -> None:
        nonlocal now
        now += cost(way, rows)

    return Ways.measure(run, ways, lambda: now, most)


def test_each_number_of_rows_takes_what_is_fastest_there() -> None:
    """One row by the stock layer, several by blocks that stand ready, many from the left."""

    def cost(way: Way, rows: int) -> float:
        many = {"left": 4 + rows / 8, "parts": 9.0, "blocks": 9.0, "packed": 2.5}
        return {"right": 1.0 * rows, **many}[way]

    ways = measured(cost)
    assert [ways.alone[rows] for rows in (1, 2, 3, 4, 8)] == ["right"] * 3 + ["right", "left"]
    assert [ways.beside[rows] for rows in (1, 2, 3, 4, 96)] == ["right"] * 2 + ["packed"] * 3
    assert ways.packs_from == 3
    assert ways.alone[7] == "left"  # as eight rows


def test_a_small_difference_does_not_decide() -> None:
    """Else the next process might round otherwise."""
    ways = measured(lambda way, rows: {"left": 1.05, "packed": 1.0}.get(way, 1.2))
    assert set(ways.alone) == set(ways.beside) == {"left"}
    assert ways.packs_from == math.inf


def test_one_slow_turn_does_not_decide() -> None:
    turns = 0

    def cost(way: Way, rows: int) -> float:
        nonlocal turns
        turns += way == "right" and rows == 1
        slow = way == "right" and rows == 1 and turns == 1
        return 1e-3 * (9 if slow else 1 if way == "right" else 2)

    assert set(measured(cost).alone) == {"right"}


def test_a_way_without_hope_is_timed_in_two_turns() -> None:
    runs = {"right": 0, "left": 0}

    def cost(way: Way, rows: int) -> float:
        runs[way] += 1
        return 1e-3 if way == "right" else 2e-3

    measured(cost, ("right", "left"), most=1)
    assert runs == {"right": 9, "left": 3}  # one run each prepares, eight turns at most


def test_no_more_rows_are_timed_than_asked_for() -> None:
    def cost(way: Way, rows: int) -> float:
        assert rows <= 3
        return rows

    assert len(measured(cost, UNBLOCKED, most=3).alone) == 4


def ways_of(weight: torch.Tensor) -> Ways:
    product = Product(weight, None)
    choose_ways([[product]])
    return product.ways


def test_products_of_one_kind_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All decoders of a process must round alike."""
    first, second = Ways(("left",), ("left",)), Ways(("parts",), ("parts",))
    found = iter([first, second])
    monkeypatch.setattr(products, "_measured", {})
    monkeypatch.setattr(products, "_measure", lambda layers, most: next(found))
    assert ways_of(torch.ones(2, 3)) is first
    assert ways_of(torch.zeros(2, 3)) is first
    assert ways_of(torch.ones(3, 2)) is second


def test_other_devices_take_stock_layers() -> None:
    assert ways_of(torch.ones(2, 3, device="meta")) is STOCK


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_real_products_are_measured(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_measured", {})
    monkeypatch.setattr(products, "_LARGE", 0)
    monkeypatch.setattr(products, "_MOST_TIMED", 100)
    ways = ways_of(torch.ones(8, 16, dtype=dtype))
    assert ways is not STOCK
    assert set(ways.alone) <= {"right", "parts", "left", "blocks"}
    assert set(ways.beside) <= set(WAYS)
