"""Passes that are replayed as graphs, on the simulated GPU, against those that run as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sortednet_cli.data import nominal_format
from sortednet_cli.engine.training.loop import Position, Trainer
from sortednet_cli.engine.training.measured import Way, time_passes
from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.errors import RequestError
from sortednet_cli.families import open_family, root_of
from sortednet_cli.machine import graphs
from sortednet_cli.machine.cuda_graphs import CudaRecorder
from sortednet_cli.machine.device import move_to
from sortednet_cli.machine.graphs import WARMUPS, PassGraphs
from sortednet_cli.machine.transfer import send
from sortednet_cli.nesting import NestedNetwork, init_network
from sortednet_cli.rules import make_rule
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import TrainSpec, load_preset
from sortednet_cli.tasks import Classification, LanguageModelling, Task, TextClassification
from tests.cuda.gpu import SimulatedGpu, simulated_gpu
from tests.pico import NUM_CLASSES, PICOS, VOCAB

pytestmark = pytest.mark.filterwarnings("ignore:grad and param do not obey")

GPU = torch.device("cuda:0")
DROPOUT = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "images": ("preact_basic", {}, {"smallest_first": 0.3, "crossing_lr": 0.5}),
    "two draws of two micro-batches": (
        *("preact_bottleneck", {}),
        {"draws": 2, "accumulate": 2, "updates": 4},
    ),
    "dropout of images": ("mobilenet_v2", {"dropout": 0.2}, {"optimizer": "rmsprop"}),
    "dropout of texts": ("bert_classifier", DROPOUT, {"optimizer": "adamw", "clip": 1.0}),
    "language": ("llama", {}, {"optimizer": "adamw"}),
    "every depth": ("bert_classifier", DROPOUT, {"rule": "sum", "updates": 10}),
    "a teacher that is trained": (
        "preact_group",
        {},
        {"rule": "sandwich", "distill": True, "updates": 6},
    ),
    "a teacher that is not": (
        *("mobilenet_v2", {"dropout": 0.2}),
        {"draws": 2, "distill": True, "updates": 8},
    ),
    "pooled images": ("resnet50", {}, {"accumulate": 2, "updates": 6}),
}
CHECKED = [
    (case, precision)
    for case in CASES
    for precision in ("fp32", "bf16")
    # Convolutions of thousands of channels in bf16 take minutes on many processors.
    if (case, precision) != ("pooled images", "bf16")
]


class Batches:
    """Other values each time, of the same shape every time or every second one."""

    def __init__(self, text: bool, lengths: tuple[int, ...] = (12,), causal: bool = False) -> None:
        self.text = text
        self.lengths = lengths
        self.causal = causal

    def training_batches(self, start: int, **_: object) -> Iterator[tuple[Any, Tensor]]:
        generator = torch.Generator().manual_seed(start)
        while True:
            targets = send(torch.randint(0, NUM_CLASSES, (6,), generator=generator), GPU)
            if not self.text:
                yield send(torch.randn(6, 3, 16, 16, generator=generator), GPU), targets
                continue
            for length in self.lengths:
                ids = torch.randint(3, VOCAB, (6, length), generator=generator)
                if self.causal:
                    yield {"input_ids": send(ids, GPU)}, ids.roll(-1, 1)
                else:
                    mask = torch.ones_like(ids)
                    yield {"input_ids": send(ids, GPU), "attention_mask": send(mask, GPU)}, targets


@pytest.fixture
def gpu() -> Iterator[SimulatedGpu]:
    with simulated_gpu() as entered:
        yield entered


def made(
    pico_name: str, config: dict[str, Any], data: Batches | None = None, **fields: Any
) -> tuple[Trainer, NestedNetwork]:
    pico = PICOS[pico_name]
    model = {**pico.model, "config": {**pico.model["config"], **config}}
    corners = {axis: [values[0], values[-1]] for axis, values in pico.space.items()}
    family, space = replace(pico, model=model).family(), SearchSpace.of(corners)
    network = NestedNetwork(family, space, move_to(init_network(family, 0), GPU, False))
    network.enable_training()
    spec = TrainSpec.model_validate({"updates": 12, "lr": 0.01, "precision": "fp32", **fields})
    task: Task = (TextClassification if pico.is_text else Classification)(NUM_CLASSES)
    if pico.task != "classification":
        task = LanguageModelling(VOCAB)
    batches: Any = data or Batches(pico.is_text, causal=pico.task != "classification")
    optimizer, rule = RootOptimizer(network, spec), make_rule(spec, space)
    return Trainer(network, task, rule, batches, optimizer, spec), network


def trained(*arguments: Any, **fields: Any) -> tuple[list[float], dict[str, Tensor]]:
    """The losses of a training, and its weights."""
    trainer, network = made(*arguments, **fields)
    losses = [float(update.loss) for update in trainer.updates(Position(), lambda: False)]
    return losses, {name: tensor.clone() for name, tensor in network.weights.items()}


@pytest.mark.parametrize(("case", "precision"), CHECKED)
def test_replayed_passes_give_the_same_losses_and_weights(
    case: str, precision: str, gpu: SimulatedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of up to four graphs in one pool, in any order; recorded as soon as can be."""
    monkeypatch.setattr(graphs, "WARMUPS", 1)
    name, config, fields = CASES[case]
    settings = {**fields, "precision": precision}
    # The simulated attention kernel has no dropout.
    with sdpa_kernel([SDPBackend.MATH]) if config is DROPOUT else nullcontext():
        losses, weights = trained(name, config, **settings, cuda_graphs=False)
        assert gpu.replays == 0
        found = trained(name, config, **settings, cuda_graphs=True)
    assert gpu.replays >= 8
    assert found[0] == losses
    assert len(set(losses)) == len(losses)
    for key, tensor in weights.items():
        assert torch.equal(found[1][key], tensor), key


def test_batches_of_other_lengths_have_graphs_of_their_own(gpu: SimulatedGpu) -> None:
    arguments = ("bert_classifier", {}, Batches(True, (12, 7)))
    one = {"rule": "single", "updates": 10}
    losses, _ = trained(*arguments, **one, cuda_graphs=False)
    found, _ = trained(*arguments, **one)
    assert found == losses
    assert gpu.replays == 10 - 2 * WARMUPS


def test_a_recorded_update_is_a_launch_and_never_waits(gpu: SimulatedGpu) -> None:
    trainer, _ = made("preact_basic", {}, rule="single", cuda_graphs=True)
    updates = trainer.updates(Position(), lambda: False)
    for _ in range(WARMUPS + 1):
        next(updates)
    waits, replays = gpu.waits, gpu.replays
    next(updates)
    assert (gpu.waits, gpu.replays) == (waits, replays + 1)
    recorded = trainer.micro_batches.graphs
    assert recorded is not None
    assert 0 < recorded.bytes_held < 64 << 20
    recorded.clear()
    assert recorded.bytes_held == 0


@pytest.mark.parametrize("preset", ["digits-resnet", "pydoc-llama"])
def test_what_auto_measures_is_recorded_as_the_training_s_passes_are(
    preset: str, gpu: SimulatedGpu
) -> None:
    depth = (
        "model.config.blocks=[2]"
        if preset == "digits-resnet"
        else "model.config.num_hidden_layers=2"
    )
    spec = load_preset(preset, [depth, "space.depth=[1,2]", "train.batch_size=2"])
    inputs = nominal_format(spec)
    family = open_family(root_of(spec.model, spec.task, inputs.facts()))
    space = SearchSpace.of(spec.space)
    ways = [Way("fp32"), Way("bf16")]
    seconds = time_passes(family, space, inputs, spec.train, torch.device("cuda:0"), ways)
    assert all(0 < seconds[way] < float("inf") for way in ways)
    assert gpu.replays >= len(ways) * 3


def _doubled(numbers: Tensor) -> list[Tensor]:
    return [numbers * 2]


def _on_the_host(numbers: Tensor) -> list[Tensor]:
    return [numbers * float(numbers.sum())]


def _drawing(numbers: Tensor) -> list[Tensor]:
    return [numbers * torch.rand(()).item()]


@pytest.mark.parametrize(
    ("work", "reason"),
    [(_on_the_host, "_local_scalar_dense.default waits for"), (_drawing, "numbers on the host")],
)
def test_work_that_cannot_be_recorded_goes_on_as_it_is(
    work: Any, reason: str, gpu: SimulatedGpu
) -> None:
    """And the random numbers that its recording drew are drawn again."""
    numbers = torch.ones(3, device=GPU)
    torch.manual_seed(0)
    wanted = [work(numbers)[0].cpu() for _ in range(WARMUPS + 2)]
    runner = PassGraphs(CudaRecorder(GPU))
    torch.manual_seed(0)
    found = [runner.run("work", work, numbers)[0].cpu() for _ in range(WARMUPS + 2)]
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    for _ in range(WARMUPS + 1):
        runner.run("other", _doubled, numbers)
    assert gpu.replays == 0
    required = PassGraphs(CudaRecorder(GPU), "graphs = true")
    with pytest.raises(RequestError, match=reason):
        for _ in range(WARMUPS + 1):
            required.run("work", work, numbers)


def test_graphs_share_one_pool_and_leave_it(
    gpu: SimulatedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many recordings that take a mebibyte inside, the pool holds a few at most."""
    monkeypatch.setattr(graphs, "MAX_GRAPHS", 64)

    def work(numbers: Tensor) -> list[Tensor]:
        return [(numbers.expand(1 << 18) + numbers).sum()]

    runner, numbers = PassGraphs(CudaRecorder(GPU)), torch.ones(1, device=GPU)
    before = torch.cuda.memory_reserved()
    for key in range(67):
        for time in range(WARMUPS + 1):
            (found,) = runner.run(key, work, numbers + time)
            assert float(found) == (2 << 18) * (1 + time)
    assert torch.cuda.memory_reserved() - before < 32 << 20
    runner.clear()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= before
