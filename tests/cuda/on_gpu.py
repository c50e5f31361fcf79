"""The CUDA side, on the simulated GPU. `test_simulated.py` runs these tests under its runtime."""

from __future__ import annotations

import ctypes
import gc
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sortednet_cli.engine.evaluation.latency import describe
from sortednet_cli.engine.generation import Decoder, EarlyExit, Plain, Sampling, Stack, Strategy
from sortednet_cli.engine.training.events import Interrupted
from sortednet_cli.engine.training.start import create_session, reopen_session
from sortednet_cli.errors import WorkError
from sortednet_cli.machine.device import choose_device, finishes_in_time
from sortednet_cli.nesting import ignore_layout_warning
from sortednet_cli.spec import load_preset
from sortednet_cli.storage.run import RunFolder
from sortednet_cli.tasks import Classification
from tests.commands import TINY, Done, command, refused
from tests.cuda.gpu import SimulatedGpu, simulated_gpu
from tests.data import test_laws as images
from tests.data.text import test_batches as texts
from tests.engine.generation.models import make, prompt

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
FP32 = "--set=train.precision=fp32"
LLAMA = (
    "--preset=pydoc-llama",
    "--set=train.updates=3",
    "--set=train.batch_size=4",
    "--set=model.config.hidden_size=32",
    "--set=model.config.num_hidden_layers=3",
    "--set=model.config.intermediate_size=32",
    "--set=space.depth=[1,2,3]",
    "--set=data.vocab_size=400",
    "--set=data.max_length=48",
)
TRAININGS = {
    "images": (
        *TINY,
        *("--set=train.channels_last=true", "--set=train.crossing_lr=0.3"),
        *("--set=train.smallest_first=0.5", "--set=train.clip=1.0"),
    ),
    "rmsprop": (*TINY, "--set=train.optimizer=rmsprop", "--set=train.distill=true"),
    "language": LLAMA,
}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedGpu]:
    monkeypatch.delenv("SORTEDNET_DEVICE")
    with simulated_gpu() as entered:
        yield entered


@pytest.fixture(scope="module")
def runtime() -> ctypes.CDLL:
    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    library.num_waits.restype = ctypes.c_long
    return library


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each training, on the CPU."""
    folder = tmp_path_factory.mktemp("cpu")
    for name, settings in TRAININGS.items():
        ended(command("train", *settings, FP32, "--quiet", "--device=cpu", "--out", folder / name))
    return {name: folder / name for name in TRAININGS}


def ended(done: Done) -> str:
    assert done.code == 0, done
    return done.out


@pytest.mark.parametrize("name", TRAININGS)
def test_training_gives_the_weights_and_scores_of_the_cpu(
    name: str, runs: dict[str, Path], gpu: SimulatedGpu, tmp_path: Path
) -> None:
    """Bit for bit, where the CPU has the same kernels; its attention has one of its own."""
    ended(
        command(
            "train", *TRAININGS[name], FP32, "--quiet", "--device=auto", "--out", tmp_path / "r"
        )
    )
    close = {"rtol": 0, "atol": 0}
    for file in ("weights.safetensors", "statistics.safetensors"):
        found, wanted = load_file(tmp_path / "r" / file), load_file(runs[name] / file)
        assert found.keys() == wanted.keys()
        for key, tensor in wanted.items():
            torch.testing.assert_close(found[key], tensor, msg=key, **close)
    rows = [json.loads((run / "frontier.json").read_text()) for run in (tmp_path / "r", runs[name])]
    scores = [[row["metrics"]["test"]["loss"] for row in table["submodels"]] for table in rows]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)


def test_a_training_in_bf16_ends_well_and_goes_on_where_it_was_stopped(
    gpu: SimulatedGpu, tmp_path: Path
) -> None:
    sets = [word.removeprefix("--set=") for word in TRAININGS["images"][1:]]
    spec = load_preset("digits-resnet", [*sets, "train.precision=bf16"])
    whole = create_session(tmp_path / "whole", spec, GPU)
    list(whole.events())
    fit, asked = create_session(tmp_path / "cut", spec, GPU), []
    with pytest.raises(Interrupted):
        list(fit.events(lambda: bool(asked.append(1)) or len(asked) > 2))
    list(reopen_session(RunFolder.open(tmp_path / "cut"), GPU, ()).events())
    found, wanted = load_file(fit.run.weights), load_file(whole.run.weights)
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def test_an_update_of_an_image_network_never_waits(gpu: SimulatedGpu, tmp_path: Path) -> None:
    """The host may run ahead of the GPU until losses are looked at, or new weights open."""
    sets = [word.removeprefix("--set=") for word in TRAININGS["images"][1:]]
    sets += ["train.smallest_first=0"]
    trainer, start, _ = create_session(
        tmp_path / "run", load_preset("digits-resnet", sets), GPU
    ).prepare()
    ignore_layout_warning()
    updates = trainer.updates(start, lambda: False)
    next(updates)  # takes the images to the GPU
    before = gpu.waits
    for _ in updates:
        assert gpu.waits == before


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
def test_an_update_whose_loss_is_no_number_changes_nothing(
    optimizer: str, gpu: SimulatedGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = [word.removeprefix("--set=") for word in TINY[1:]]
    settings = (f"train.optimizer={optimizer}", "train.max_nonfinite=9")
    spec = load_preset("digits-resnet", [*sets, *settings])
    trainer, start, _ = create_session(tmp_path / "run", spec, GPU).prepare()
    ignore_layout_warning()
    updates = trainer.updates(start, lambda: False)
    next(updates)
    before = {name: tensor.clone() for name, tensor in trainer.network.weights.items()}
    plain = Classification.loss
    monkeypatch.setattr(Classification, "loss", lambda *a: plain(*a) * math.nan)
    next(updates)
    assert all(torch.equal(trainer.network.weights[name], before[name]) for name in before)


def test_scores_and_latencies_of_a_run(
    runs: dict[str, Path], gpu: SimulatedGpu, tmp_path: Path
) -> None:
    run = runs["images"]
    tables = [
        json.loads(ended(command("eval", run, "--all", "--json", "--device", device)))
        for device in ("cpu", "cuda")
    ]
    for one, other in zip(*(table["submodels"] for table in tables), strict=True):
        assert one["metrics"]["loss"] == pytest.approx(other["metrics"]["loss"], rel=1e-6)
    timed = json.loads(ended(command("frontier", run, "--cost=latency", "--json")))
    assert timed["latency"] == describe(torch.device("cuda"))
    assert "host memory" in timed["latency"]["device"]
    budget = ("--max-latency-ms=1e6", "--json", "--out", tmp_path / "cut")
    cut = json.loads(ended(command("extract", run, *budget)))
    assert cut["latency"] == timed["latency"]
    assert cut["submodel"]["latency_ms"] > 0


def test_every_mode_of_generate(
    runs: dict[str, Path], gpu: SimulatedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_LEAST", "_MOST"):  # too few turns for the timed passes to be recorded
        monkeypatch.setattr(f"sortednet_cli.engine.generation.timings.{name}", 2)
    run = runs["language"]
    said = [
        ended(command("generate", run, "--calibrate", "--agreement=0.3", "--device", device))
        for device in ("cpu", "cuda")
    ]
    assert said[0] == said[1]
    for mode in ("greedy", "early-exit", "speculative"):
        words = ("generate", run, "--prompt=The with", "--max-new-tokens=8", "--mode", mode)
        found = [ended(command(*words, "--device", device)) for device in ("cpu", "cuda")]
        assert found[0] == found[1]
        for choice in ("true", "false"):
            before = gpu.replays
            done = command(*words, "--device=cuda", "--cuda-graphs", choice)
            assert ended(done) == found[0]
            assert (gpu.replays > before) == (choice == "true")


WAYS: dict[str, Callable[[Decoder], Strategy]] = {
    "plain": lambda decoder: Plain(),
    "early exit": lambda decoder: EarlyExit({1: 0.2, 2: 0.3}),
    "fixed drafts": lambda decoder: decoder.speculative(2, 3),
}


@pytest.mark.parametrize(
    ("kind", "precision"),
    [("grouped", torch.float32), ("mistral", torch.float32), ("biased", torch.bfloat16)],
)
def test_tokens_are_those_of_the_cpu(kind: str, precision: torch.dtype, gpu: SimulatedGpu) -> None:
    """By every way of decoding, drawn so that they vary; drafts begin at every column of a mask."""
    model, placed = make(kind), make(kind).to(GPU)
    for parameter in (*model.parameters(), *placed.parameters()):
        parameter.data = parameter.data.to(precision)
    for name, way in WAYS.items():
        found = []
        for module in (model, placed):
            decoder, chooser = Decoder(module, (1, 2, 3)), Sampling(0.8, 0.9, 5, precision)
            tokens = decoder.stream(prompt(9), way(decoder), 12, chooser=chooser)
            found.append(list(tokens))
        assert found[0] == found[1], name
        assert len(set(found[0])) > 5


def test_a_stack_waits_for_the_gpu(gpu: SimulatedGpu, runtime: ctypes.CDLL) -> None:
    """Else the times that drafts are chosen by would be those of asking."""
    stack = Stack(make("grouped").to(GPU), 64)
    before = runtime.num_waits()
    stack.wait()
    assert runtime.num_waits() == before + 1


def test_batches_are_those_of_the_cpu(gpu: SimulatedGpu, tmp_path: Path) -> None:
    for kind in (*images.KINDS, *texts.TASKS):
        (tmp_path / kind).mkdir()
    for kind in images.KINDS:
        opened = images.opened(kind, tmp_path / kind)
        one, other = (
            opened.training_batch(1, batch_size=8, seed=0, device=device) for device in (CPU, GPU)
        )
        assert other[0].is_cuda
        assert images.same(one, (other[0].cpu(), other[1].cpu()))
    for task in texts.TASKS:
        part = texts.opened(task, tmp_path / task)
        one, other = (
            part.training_batch(1, batch_size=4, seed=0, device=device) for device in (CPU, GPU)
        )
        assert all(tensor.is_cuda for tensor in other[0].values())
        assert other[1].is_cpu  # tasks look at it
        assert texts.same(one, ({k: v.cpu() for k, v in other[0].items()}, other[1]))


def test_mixed_devices_are_refused_as_a_gpu_refuses_them(gpu: SimulatedGpu) -> None:
    there = torch.ones(2, 2, device=GPU)
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.ones(2, 2)
    assert float((there + torch.tensor(1.0)).sum()) == 8


@pytest.fixture
def shrink() -> Iterator[Callable[[float], None]]:
    """Leaves the GPU some megabytes."""

    def leave(megabytes: float) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(megabytes * 2**20 / whole)

    yield leave
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_gpu_that_is_too_small_is_told_in_one_message(
    runs: dict[str, Path],
    gpu: SimulatedGpu,
    shrink: Callable[[float], None],
    tmp_path: Path,
) -> None:
    training = ("train", *TINY, "--quiet", "--set=train.batch_size=512", "--out", tmp_path / "run")
    scoring = ("eval", runs["images"])
    shrink(0.5)
    for arguments in (training, scoring, ("generate", runs["language"], "--prompt=The")):
        refused(command(*arguments), 1, "--device cuda: its memory is full (Tried to allocate")
    shrink(3)
    for arguments in (training, scoring):
        refused(command(*arguments), 1, "out of memory: w", "samples: Tried to allocate")


def test_a_device_is_chosen_and_made_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("auto") == torch.device("cuda")
    chosen: list[int] = []
    monkeypatch.setattr(torch.accelerator, "set_device_index", chosen.append)
    assert choose_device("cuda:0") == GPU
    assert chosen == [0]


def test_a_full_gpu_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def ones(*_: Any, **__: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(torch, "ones", ones)
    with pytest.raises(WorkError, match=r"--device cuda: its memory is full \(CUDA error: out of"):
        choose_device("cuda")


def test_a_device_that_never_ends_is_not_waited_for(runtime: ctypes.CDLL) -> None:
    runtime.set_busy(1)
    try:
        assert not finishes_in_time(GPU, seconds=0.1)
    finally:
        runtime.set_busy(0)
    assert finishes_in_time(GPU)
