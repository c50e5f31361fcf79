"""Layers are timed in a bounded number of passes, and by the fastest of several."""

import math
from collections.abc import Iterator

import pytest
import torch

from sortednet_cli.engine.generation import timings
from sortednet_cli.engine.generation.stack import Stack
from sortednet_cli.engine.generation.timings import MAX_ROWS, LayerTimings
from tests.engine.generation.models import make


class Clock:
    """Tells `seconds` more at each second look, so that every pass takes so long."""

    def __init__(self, passes: Iterator[float]) -> None:
        self.now, self.looks, self.passes = 0.0, 0, passes

    def __call__(self) -> float:
        self.looks += 1
        if self.looks % 2 == 0:
            self.now += next(self.passes)
        return self.now


def repeated(*seconds: float) -> Iterator[float]:
    while True:
        yield from seconds


@torch.inference_mode()
def measure(clock: Clock, capacity: int = 96) -> LayerTimings:
    return LayerTimings.measure(Stack(make("llama"), capacity), clock)


JOBS = 3 * len(timings._TIMED)  # layers, the head and a draft's head


def test_a_slow_model_has_few_turns() -> None:
    clock = Clock(repeated(1.0))
    measure(clock)
    assert clock.looks == 2 * timings._LEAST * JOBS


def test_a_fast_model_has_more() -> None:
    clock = Clock(repeated(1e-4))
    measure(clock)
    assert clock.looks == 2 * timings._MOST * JOBS


def test_a_disturbed_turn_does_not_count() -> None:
    """As many passes in a row as two turns have."""
    slow, fast = [50.0] * (2 * JOBS), [1e-3] * JOBS
    pace = measure(Clock(repeated(*slow, *fast)))
    assert pace.head[1:] == pytest.approx([1e-3] * MAX_ROWS)


def test_what_lies_between_is_interpolated() -> None:
    pace = timings._by_rows({1: 1.0, 2: 1.0, 4: 3.0, 16: 15.0})
    assert pace == pytest.approx([0.0, *[1.0, 1.0, 2.0], *range(3, 16)])


def test_a_short_context_has_no_times_of_more_positions() -> None:
    pace = measure(Clock(repeated(1e-3)), capacity=12)
    assert all(map(math.isfinite, pace.layer[:12]))
    assert set(pace.layer[12:]) == {math.inf}
