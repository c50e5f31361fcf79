"""Recorded passes: what is recorded when, and what leaves; by a recorder that needs no GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from sortednet_cli.errors import RequestError
from sortednet_cli.machine import graphs as module
from sortednet_cli.machine.cuda_graphs import open_graphs
from sortednet_cli.machine.graphs import WARMUPS, NotRecordable, PassGraphs
from sortednet_cli.tasks import Targets

CPU = torch.device("cpu")


@dataclass
class Recording:
    """Work that runs again on the same tensors, as a graph does."""

    work: Callable[[], list[Tensor]]
    outputs: Sequence[Tensor]
    pool_bytes: int
    own_bytes: int

    def replay(self) -> None:
        for kept, new in zip(self.outputs, self.work(), strict=True):
            kept.copy_(new)


@dataclass
class Recorder:
    """Notes what it is asked for; a recording takes 10 bytes, the first one's pool 100."""

    limit: int = 1000
    pool_bytes: int = 100
    refuses: bool = False
    asked: list[str] = field(default_factory=list)

    def warm_up(self, work: Callable[[], list[Tensor]]) -> list[Tensor]:
        self.asked.append("warm up")
        return work()

    def record(self, work: Callable[[], list[Tensor]]) -> Recording:
        if self.refuses:
            raise NotRecordable("it waits for the device")
        pool_bytes = 0 if "record" in self.asked else self.pool_bytes
        self.asked.append("record")
        return Recording(work, work(), pool_bytes, 10)


def doubled(numbers: Tensor) -> list[Tensor]:
    return [numbers * 2, numbers.sum()]


def run(graphs: PassGraphs, key: Any, size: int = 3, times: int = WARMUPS + 1) -> None:
    for time in range(times):
        numbers = torch.full((size,), float(time))
        found = graphs.run(key, doubled, numbers)
        assert torch.equal(found[0], numbers * 2)
        assert float(found[1]) == size * time


def test_work_is_recorded_after_warming_up_and_then_replayed() -> None:
    recorder = Recorder()
    graphs = PassGraphs(recorder)
    run(graphs, "one", times=10)
    assert recorder.asked == ["warm up"] * WARMUPS + ["record"]
    assert graphs.bytes_held == 110


def test_results_are_not_overwritten_by_the_next_replay() -> None:
    graphs = PassGraphs(Recorder())
    found = [graphs.run("one", doubled, torch.full((2,), float(time)))[0] for time in range(9)]
    assert [float(numbers[0]) for numbers in found] == [2.0 * time for time in range(9)]


def _nests() -> list[Any]:
    numbers = torch.zeros(4, 6)
    return [
        numbers,
        numbers[:3],
        numbers.t().reshape(4, 6).t().contiguous().t(),
        numbers.double(),
        {"ids": numbers},
        {"mask": numbers},
        [numbers],
        [numbers, numbers],
        Targets(numbers),
        Targets(numbers, numbers),
    ]


def test_kinds_differ_by_key_shape_strides_type_and_names() -> None:
    recorder = Recorder(limit=10**6)
    graphs = PassGraphs(recorder)

    def nothing(nest: Any) -> list[Tensor]:
        return [torch.zeros(1)]

    kinds = [(key, nest) for key in ("a", "b") for nest in _nests()]
    for _ in range(WARMUPS + 2):
        for key, nest in kinds:
            graphs.run(key, nothing, nest)
    assert recorder.asked.count("record") == len(kinds)


def test_every_tensor_of_a_nest_is_read_anew() -> None:
    def total(inputs: dict[str, Tensor], targets: Targets, others: list[Tensor]) -> list[Tensor]:
        assert targets.rows is not None
        return [sum((inputs["a"], inputs["b"], targets.values, targets.rows, *others)).clone()]

    graphs = PassGraphs(Recorder())
    for time in range(WARMUPS + 4):
        one, two, three, four, five = torch.arange(5.0).mul(time).split(1)
        found = graphs.run("one", total, {"a": one, "b": two}, Targets(three, four), [five])
        assert float(found[0]) == 10 * time


def test_the_number_of_recordings_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_GRAPHS", 3)
    recorder = Recorder()
    graphs = PassGraphs(recorder)
    for key in "abc":
        run(graphs, key)
    run(graphs, "a", times=1)
    run(graphs, "d")  # b was used longest ago
    assert graphs.bytes_held == 100 + 3 * 10
    recorder.asked.clear()
    for key in "acd":
        run(graphs, key)
    assert recorder.asked == []
    run(graphs, "b", times=1)
    assert recorder.asked == ["warm up"]


def test_memory_is_bounded_and_the_least_used_leave() -> None:
    recorder = Recorder(limit=125)
    graphs = PassGraphs(recorder)
    for key in "abc":
        run(graphs, key)
    assert graphs.bytes_held == 120
    recorder.asked.clear()
    run(graphs, "b")
    run(graphs, "c")
    assert recorder.asked == []


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [(Recorder(refuses=True), "it waits for"), (Recorder(limit=50), "110 bytes, more than 25%")],
)
def test_what_cannot_be_recorded_runs_as_it_is_from_then_on(
    recorder: Recorder, reason: str
) -> None:
    graphs = PassGraphs(recorder)
    run(graphs, "one", times=9)
    recorder.asked.clear()
    run(graphs, "two", times=9)
    assert recorder.asked == []
    assert graphs.bytes_held == 0
    recorder.asked.clear()
    with pytest.raises(RequestError, match=rf"graphs = true: .*{reason}"):
        run(PassGraphs(recorder, "graphs = true"), "one")


def test_cleared_recordings_are_made_again() -> None:
    recorder = Recorder()
    graphs = PassGraphs(recorder)
    run(graphs, "one")
    graphs.clear()
    assert graphs.bytes_held == 0
    recorder.asked.clear()
    run(graphs, "one")
    assert recorder.asked == ["warm up"] * WARMUPS + ["record"]


def test_work_without_outputs_is_replayed_too() -> None:
    graphs, total = PassGraphs(Recorder()), torch.zeros(3)

    def added(numbers: Tensor) -> list[Tensor]:
        total.add_(numbers)
        return []

    for _ in range(WARMUPS + 4):
        assert graphs.run("one", added, torch.ones(3)) == []
    # Once more than it was asked for: this recorder runs what it records.
    assert torch.equal(total, torch.full((3,), WARMUPS + 5.0))


def test_a_cpu_has_no_graphs() -> None:
    assert open_graphs("auto", CPU, "graphs = true") is None
    with pytest.raises(RequestError, match="graphs = true: --device cpu has no CUDA graphs"):
        open_graphs(True, CPU, "graphs = true")
