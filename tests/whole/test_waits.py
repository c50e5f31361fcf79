"""How often the host waits for a GPU, on one that is pretended: bounds for everything in a loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.pretended import PretendedGpu
from sortednet_cli.engine.evaluation.batch_sizes import BatchSizes
from sortednet_cli.engine.evaluation.score import ensure_statistics, score
from sortednet_cli.engine.generation import (
    Chooser,
    Decoder,
    DecodingStats,
    EarlyExit,
    Greedy,
    Plain,
    Sampling,
    Strategy,
)
from sortednet_cli.engine.generation.thresholds import _observe
from sortednet_cli.engine.training.loop import Position, Trainer
from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.engine.training.start import create_session
from sortednet_cli.families import open_family, root_of
from sortednet_cli.machine.transfer import fetch, send
from sortednet_cli.nesting import NestedNetwork, init_network
from sortednet_cli.rules import make_rule
from sortednet_cli.spec import TrainSpec, load_preset
from sortednet_cli.tasks import make_task
from tests.commands import TINY
from tests.data import test_laws as images
from tests.data.text.made import opened
from tests.engine.generation.models import make, prompt
from tests.pico import TEXT_PICOS

pytestmark = pytest.mark.filterwarnings("ignore:grad and param do not obey")

CPU = torch.device("cpu")
SIZES = BatchSizes(scored=64, measured=64)
TEXTS = ["bert_classifier", "bert_masked", "llama", "qwen2"]


@pytest.fixture
def gpu() -> Iterator[PretendedGpu]:
    with PretendedGpu() as entered:
        yield entered


def waits(gpu: PretendedGpu, run: Callable[[], object]) -> int:
    gpu.waits.clear()
    run()
    return gpu.waits.total()


def image_trainer(folder: Path, *settings: str) -> Trainer:
    """Of a preset, as a run has it, with its images on the GPU."""
    sets = [word.removeprefix("--set=") for word in TINY[1:]]
    spec = load_preset("digits-resnet", [*sets, "train.updates=1000", *settings])
    trainer, _, _ = create_session(folder / "run", spec, CPU).prepare()
    for part in (trainer.data.train, trainer.data.validation, trainer.data.test):
        next(part.batches(1, CPU))
    return trainer


def text_trainer(name: str, folder: Path, **settings: object) -> Trainer:
    pico = TEXT_PICOS[name]
    texts = opened(pico.task, folder)
    family = open_family(root_of(pico.spec, pico.task, texts.format.facts()), [])
    network = NestedNetwork(family, pico.search_space, init_network(family, 0).to(CPU))
    network.enable_training()
    fields = {"updates": 1000, "batch_size": 4, "optimizer": "adamw", "clip": 1.0, **settings}
    spec = TrainSpec.model_validate(fields)
    outputs = 2 if pico.task == "classification" else texts.format.vocab_size
    task = make_task(pico.task, "text", outputs)
    rule = make_rule(spec, network.space)
    return Trainer(network, task, rule, texts, RootOptimizer(network, spec), spec)


def update_waits(gpu: PretendedGpu, trainer: Trainer) -> list[int]:
    """Of updates after the first, where an optimizer need not look at the loss."""
    trainer.optimizer.skips_on_device = True
    updates = trainer.updates(Position(), lambda: False)
    next(updates)
    return [waits(gpu, lambda: next(updates)) for _ in range(3)]


@pytest.mark.parametrize(
    "settings",
    [
        ("data.augment=crop", "train.channels_last=true", "train.crossing_lr=0.3"),
        ("train.rule=sandwich", "train.distill=true", "train.clip=1.0"),
        ("train.accumulate=2", "train.optimizer=adamw"),
    ],
)
def test_an_update_of_an_image_network_never_waits(
    settings: tuple[str, ...], gpu: PretendedGpu, tmp_path: Path
) -> None:
    trainer = image_trainer(tmp_path, "train.smallest_first=0", *settings)
    assert update_waits(gpu, trainer) == [0] * 3, gpu.waits


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("rule", ["sum", "sandwich"])
def test_an_update_of_a_language_network_waits_in_stock_passes_alone(
    name: str, rule: str, gpu: PretendedGpu, tmp_path: Path
) -> None:
    """They look at padding and at where packed texts end, once a pass; qwen2's have neither."""
    trainer = text_trainer(name, tmp_path, rule=rule)
    passes = 4 if rule == "sandwich" else 1
    looks = 0 if name == "qwen2" else passes
    assert max(update_waits(gpu, trainer)) <= looks, gpu.waits
    assert all("prefix_pass.py" in line for line in gpu.waits)


def test_an_optimizer_that_must_see_the_loss_waits_once(gpu: PretendedGpu, tmp_path: Path) -> None:
    trainer = image_trainer(tmp_path, "train.smallest_first=0", "train.optimizer=rmsprop")
    assert not trainer.optimizer.skips_on_device
    updates = trainer.updates(Position(), lambda: False)
    next(updates)
    assert [waits(gpu, lambda: next(updates)) for _ in range(3)] == [1] * 3


@pytest.mark.parametrize("kind", images.KINDS)
def test_images_are_sent_without_waiting(kind: str, gpu: PretendedGpu, tmp_path: Path) -> None:
    with gpu.paused():
        opened = images.opened(kind, tmp_path)
    batches = opened.training_batches(0, batch_size=8, seed=0, device=CPU)
    next(batches)  # what is there for all batches
    assert waits(gpu, lambda: [next(batches) for _ in range(3)]) == 0
    pixels, labels = next(batches)
    assert gpu.holds(pixels) and gpu.holds(labels)
    assert gpu.copies


def test_scores_of_all_parts_are_read_at_once(gpu: PretendedGpu, tmp_path: Path) -> None:
    """Beside them, what blocks are shared by."""
    trainer = image_trainer(tmp_path)
    network, data = trainer.network, trainer.data
    for group in network.groups(network.space.submodels):
        for submodel in group:
            network.at(submodel)
        gpu.waits.clear()
        ensure_statistics(network, group, data, SIZES, 128)
        assert gpu.waits.total() == 1
        assert not any(map(gpu.holds, network.statistics[group[0].name].values()))
        gpu.waits.clear()
        score(network, group, data, ("validation", "test"), trainer.task, SIZES)
        assert gpu.waits.total() == 2


@pytest.mark.parametrize("name", TEXTS)
def test_scores_of_texts_are_read_at_once(name: str, gpu: PretendedGpu, tmp_path: Path) -> None:
    trainer = text_trainer(name, tmp_path)
    network, data = trainer.network, trainer.data
    group = network.groups(network.space.submodels)[0]
    network.at(group[0])
    waits(gpu, lambda: score(network, group, data, ("train", "test"), trainer.task, SIZES))
    own = {line: count for line, count in gpu.waits.items() if "prefix_pass.py" not in line}
    assert sum(own.values()) == 1


def test_exits_are_observed_at_once(
    gpu: PretendedGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BatchSizes, "of", lambda *_: SIZES)
    trainer = text_trainer("qwen2", tmp_path)
    network = trainer.network
    source: Any = type("Source", (), {"task": trainer.task, "format": trainer.data.format})
    group = network.groups(network.space.submodels)[0]
    network.at(group[0])
    waits(gpu, lambda: _observe(network, group, trainer.data, source))
    own = {line: count for line, count in gpu.waits.items() if "prefix_pass.py" not in line}
    assert sum(own.values()) == 1


CHOOSERS: dict[str, Callable[[], Chooser]] = {
    "greedy": Greedy,
    "drawn": lambda: Sampling(0.8, 0.9, seed=3),
}
WAYS: dict[str, Callable[[Decoder], Strategy]] = {
    "plain": lambda decoder: Plain(),
    "drafts": lambda decoder: decoder.speculative(2, 3),
    "look-up": lambda decoder: decoder.speculative(0, 3),
    "adaptive": lambda decoder: decoder.speculative(3),
    "automatic": lambda decoder: decoder.speculative(),
    "early exit": lambda decoder: EarlyExit({1: 0.2, 2: 0.3}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chooser", CHOOSERS)
def test_a_round_of_decoding_waits_once(way: str, chooser: str, gpu: PretendedGpu) -> None:
    """One more for a position that is computed again; early exit looks at each exit."""
    tokens, model = prompt(9), make("grouped")
    with gpu.paused():  # on the CPU
        host = Decoder(model, (1, 2, 3))
        wanted = list(host.stream(tokens, WAYS["plain"](host), 40, chooser=CHOOSERS[chooser]()))
    decoder, stats = Decoder(model.to(CPU), (1, 2, 3)), DecodingStats()
    strategy = WAYS[way](decoder)
    list(decoder.stream(tokens, Plain(), 40))  # makes room for all positions
    found: list[int] = []

    def run() -> None:
        found.extend(decoder.stream(tokens, strategy, 40, chooser=CHOOSERS[chooser](), stats=stats))

    count = waits(gpu, run)
    first = 1
    if way == "early exit":
        looks = {1: 1, 2: 2, decoder.depth: 3}
        assert count == first + sum(looks[depth] * n for depth, n in stats.exits.items())
        return
    assert found == wanted
    assert count == first + stats.passes + stats.recomputed + stats.replayed
    if way == "drafts":
        assert stats.drafted > stats.passes


def test_what_is_fetched_is_what_was_there(gpu: PretendedGpu) -> None:
    """Of every type and shape, by one wait; the host's own stays as it is."""
    own = torch.arange(3)
    tensors = [
        torch.randn(2, 3).t(),
        torch.tensor(True),
        torch.empty(0, 4),
        torch.arange(5, dtype=torch.int16),
        torch.randn(7).bfloat16()[1:],
        torch.randn(3, dtype=torch.float64),
    ]
    there = {"all": [send(tensor, CPU) for tensor in tensors], "own": (own, 3)}
    assert all(gpu.holds(tensor) for tensor in there["all"])
    gpu.waits.clear()
    found = fetch(there)
    assert gpu.waits.total() == 1
    assert found["own"][0] is own and found["own"][1] == 3
    for tensor, wanted in zip(found["all"], tensors, strict=True):
        assert not gpu.holds(tensor)
        assert tensor.dtype == wanted.dtype
        assert torch.equal(tensor, wanted)


def test_every_look_is_counted(gpu: PretendedGpu) -> None:
    there = torch.arange(6.0, device=CPU)
    mask = there > 2
    looks: list[Callable[[], object]] = [
        lambda: float(there[0]),
        lambda: bool(mask.any()),
        there.tolist,
        there.cpu,
        there.numpy,
        there.nonzero,
        lambda: there[mask],
        lambda: torch.equal(there, there),
        lambda: torch.zeros(6).copy_(there),
        lambda: torch.zeros(6).to(CPU),
        lambda: torch.tensor([1.0], device=CPU),
        lambda: there[torch.tensor([1])],
    ]
    assert [waits(gpu, look) for look in looks] == [1] * len(looks)
    quiet: list[Callable[[], object]] = [
        lambda: there.sum() + 1,
        lambda: there[mask.long()],
        lambda: there.view(2, 3).where(mask.view(2, 3), 0),
        lambda: torch.zeros(6).to(CPU, non_blocking=True),
        lambda: torch.arange(3).tolist(),
        lambda: torch.zeros(3, device=CPU),
    ]
    assert [waits(gpu, run) for run in quiet] == [0] * len(quiet)
    with pytest.raises(AssertionError, match="tensors of two devices"):
        there + torch.zeros(6)
