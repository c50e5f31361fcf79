"""Recorded passes: what is recorded when, and what leaves; by a recorder that needs no GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sortednet_cli.engine.training import graphs as module
from sortednet_cli.engine.training.graphs import WARMUPS, NotRecordable, PassGraphs, open_graphs
from sortednet_cli.engine.training.start import create_session
from sortednet_cli.errors import RequestError
from sortednet_cli.spec import TrainSpec, load_preset
from sortednet_cli.tasks import Targets
from tests.commands import TINY, command, refused

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
    with pytest.raises(RequestError, match=rf"train.cuda_graphs = true.*{reason}"):
        run(PassGraphs(recorder, required=True), "one")


def test_cleared_recordings_are_made_again() -> None:
    recorder = Recorder()
    graphs = PassGraphs(recorder)
    run(graphs, "one")
    graphs.clear()
    assert graphs.bytes_held == 0
    recorder.asked.clear()
    run(graphs, "one")
    assert recorder.asked == ["warm up"] * WARMUPS + ["record"]


def test_a_cpu_has_no_graphs(tmp_path: Path) -> None:
    spec = TrainSpec.model_validate({"updates": 1})
    assert spec.cuda_graphs == "auto"
    assert open_graphs(spec, CPU) is None
    message = "train.cuda_graphs = true: --device cpu has no CUDA graphs"
    words = ("train", *TINY, "--set=train.cuda_graphs=true", "--device=cpu", "--out")
    refused(command(*words, tmp_path / "run"), 2, message)
    assert not list(tmp_path.iterdir())


def test_on_a_cpu_auto_changes_nothing(tmp_path: Path) -> None:
    weights = []
    for choice in ("auto", "false"):
        sets = [word.removeprefix("--set=") for word in TINY[1:]]
        spec = load_preset(
            "digits-resnet", [*sets, f'train.cuda_graphs="{choice}"'.replace('"false"', "false")]
        )
        list(create_session(tmp_path / choice, spec, CPU).events())
        weights.append(load_file(tmp_path / choice / "weights.safetensors"))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


@pytest.mark.parametrize("other", ["shard", "compile"])
def test_passes_that_are_not_recorded_are_refused_by_the_spec(other: str) -> None:
    with pytest.raises(ValueError, match=f"train.cuda_graphs: .* under train.{other}"):
        TrainSpec.model_validate({"updates": 1, other: True, "cuda_graphs": True})
    assert TrainSpec.model_validate({"updates": 1, other: True}).cuda_graphs == "auto"
    with pytest.raises(ValueError, match="cuda_graphs"):
        TrainSpec.model_validate({"updates": 1, "cuda_graphs": "maybe"})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("model", ["digits", "dropout"])
def test_graphs_change_no_weight_on_a_gpu(model: str, tmp_path: Path) -> None:
    """20 updates with and without, by the same kernels: to rounding, and dropout draws the same."""
    device, weights = torch.device("cuda:0"), []
    sets = ["train.updates=20", "train.lr=0.01", "train.precision=fp32", "train.deterministic=true"]
    sets += ["space.width=[0.5,1.0]", "space.depth=[3,8]"]
    if model == "dropout":
        sets += ["model.family=mobilenet_v2", "model.config={dropout=0.2}", "space.depth=[5,17]"]
    for choice in ("true", "false"):
        spec = load_preset("digits-resnet", [*sets, f"train.cuda_graphs={choice}"])
        list(create_session(tmp_path / choice, spec, device).events())
        weights.append(load_file(tmp_path / choice / "weights.safetensors"))
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=1e-5, atol=1e-6)
