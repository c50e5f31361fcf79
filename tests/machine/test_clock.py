"""Ways of computing are compared by a clock that other processes do not advance."""

import time

import pytest
import torch

from sortednet_cli.machine.clock import work_clock

CPU = torch.device("cpu")


def seconds(device: torch.device) -> float:
    clock = work_clock(device)
    start = clock()
    time.sleep(0.05)  # as if another process had the core
    return clock() - start


@pytest.mark.parametrize(("threads", "least", "most"), [(1, 0.0, 0.02), (2, 0.05, 10.0)])
def test_waiting_counts_only_with_several_threads(
    threads: int, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert least <= seconds(CPU) <= most


def test_another_device_has_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert seconds(torch.device("cuda")) >= 0.05
