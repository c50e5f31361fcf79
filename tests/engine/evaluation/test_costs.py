"""What is computed of a sub-model, beside what its file holds and what its forward pass takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves

from sortednet_cli import load_run
from sortednet_cli.engine.evaluation.costs import every_cost, find_cost
from sortednet_cli.engine.export.extract import extract
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.machine.live_bytes import LiveBytes, storage_bytes
from sortednet_cli.space import SubModel
from sortednet_cli.storage.tensors import read_tensors
from tests.commands import command
from tests.whole.test_language import PICO_RUN


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small language model."""
    out = tmp_path_factory.mktemp("texts") / "run"
    settings = [f"--set={setting}" for setting in PICO_RUN]
    done = command("train", "--preset=pydoc-llama", *settings, f"--out={out}", "--quiet")
    assert done.code == 0, done
    return out


@pytest.fixture(params=["images", "texts"])
def source(request: pytest.FixtureRequest) -> Source:
    fixture = "trained" if request.param == "images" else "texts"
    return load_run(request.getfixturevalue(fixture))


def value(name: str, source: Source, submodel: SubModel) -> float:
    (found,) = find_cost(name).values(source, [submodel], "cpu")
    return found


def test_size_is_the_bytes_of_the_tensors_in_the_file(source: Source, tmp_path: Path) -> None:
    for submodel in (source.space.smallest, source.space.largest):
        done = extract(source, submodel, tmp_path / submodel.name)
        tensors = read_tensors(done.path / "model.safetensors")
        written = sum(tensor.nbytes for tensor in tensors.values())
        assert value("size_mb", source, submodel) * 1e6 == written
        file = (done.path / "model.safetensors").stat().st_size
        assert 0 < file - written < 16_384  # the header


def _allocated(run: Any) -> int:
    """The most bytes that a call holds at once, by what torch's allocator reports."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        run()
    results = cast(Any, found.profiler).kineto_results.events()
    events = [event for event in results if event.name() == "[memory]"]
    now, most = 0, 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


@torch.no_grad()
def test_memory_is_that_of_a_real_forward_pass(source: Source) -> None:
    """Exactly, of weights, inputs and results; what kernels take for themselves comes on top."""
    network = source.network()
    for submodel in (source.space.smallest, source.space.largest):
        module = network.standalone(submodel)
        inputs = source.format.random_inputs(1)
        held = [*module.parameters(), *module.buffers(), *tree_leaves(inputs)]
        with LiveBytes(held) as live:
            source.family.forward(module, inputs)
        computed = value("memory_mb", source, submodel) * 1e6
        assert computed == storage_bytes(held) + live.peak

        allocated = _allocated(lambda m=module, x=inputs: source.family.forward(m, x))
        scratch = allocated - live.peak
        assert 0 <= scratch <= (0 if source.format.kind == "text" else live.peak)


def test_what_is_computed_needs_no_weights(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(source), "network", None)
    monkeypatch.setattr(type(source), "open_weights", None)
    assert value("size_mb", source, source.space.smallest) > 0
    smallest, largest = (
        value("memory_mb", source, submodel)
        for submodel in (source.space.smallest, source.space.largest)
    )
    assert 0 < smallest < largest


def test_every_cost_says_what_it_is() -> None:
    for cost in every_cost():
        assert cost.flag == "--max-" + cost.name.replace("_", "-")
        assert type(find_cost(cost.name)) is type(find_cost(cost.quantity)) is type(cost)
        for name in ("frontier", "extract"):
            words = " ".join(command(name, "--help").out.split())
            assert f"{cost.flag} N {cost.help}" in words
        assert cost.read("2") == 2 and cost.show(2) == "2"
