"""What one update does to weights, optimizer state and the random stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from sortednet_cli.engine.training import measured
from sortednet_cli.engine.training.loop import Trainer
from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.engine.training.start import create_session
from sortednet_cli.errors import RequestError
from sortednet_cli.families import open_family, root_of
from sortednet_cli.machine.precision import has_bf16, in_bf16, seed_generators, warn_of_emulation
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.rules import make_rule
from sortednet_cli.spec import ModelSpec, TrainSpec, load_preset
from sortednet_cli.tasks import Classification, LanguageModelling
from sortednet_cli.tasks.chunks import training_chunks
from tests.pico import PICOS, Pico
from tests.resuming import check_resumes, opening

pytestmark = pytest.mark.filterwarnings("ignore:grad and param do not obey")

CPU = torch.device("cpu")


def _random_gradients(network: NestedNetwork, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for gradient in network.gradients.values():
        gradient.copy_(torch.randn(gradient.shape, generator=generator))


def _spec(**fields: Any) -> TrainSpec:
    return TrainSpec.model_validate({"updates": 1, "weight_decay": 0.1, **fields})


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_update_that_is_to_change_nothing_changes_nothing(optimizer: str) -> None:
    """By what a device reads itself, as where nobody waits for the loss."""
    network = PICOS["preact_basic"].network()
    stepper = RootOptimizer(network, _spec(optimizer=optimizer, crossing_lr=0.5))
    stepper.skips_on_device = True
    _random_gradients(network, 0)
    stepper.step(network.parameters, 0.1, torch.tensor(False))
    weights = {name: p.detach().clone() for name, p in network.parameters.items()}
    state = {name: value.clone() for name, value in stepper.state().items()}
    for gradient in network.gradients.values():
        gradient.fill_(float("nan"))
    stepper.step(network.parameters, 0.1, torch.tensor(True))
    assert all(torch.equal(p, weights[name]) for name, p in network.parameters.items())
    assert all(torch.equal(value, state[name]) for name, value in stepper.state().items())
    _random_gradients(network, 1)
    stepper.step(network.parameters, 0.1, torch.tensor(False))
    assert all(not torch.equal(p, weights[name]) for name, p in network.parameters.items())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
def test_weights_that_open_late_take_no_larger_steps_than_the_others(optimizer: str) -> None:
    """A thousand updates without them leave no momentum, no decay and no bias in their state."""
    network = PICOS["preact_basic"].network()
    stepper = RootOptimizer(network, _spec(optimizer=optimizer, lr=0.001))
    small, large = network.space.smallest, network.space.largest
    masks = {}
    for piece in network.plan(small).slices.values():
        if piece.source in network.parameters:
            masks[piece.source] = piece.mask(network.parameters[piece.source].shape)
    stepper.open(small, small)
    for number in range(1000):
        _random_gradients(network, number)
        for name, inside in masks.items():
            network.gradients[name].mul_(inside)
        stepper.step(masks, 0.001)
    before = {name: p.detach().clone() for name, p in network.parameters.items()}
    stepper.open(large, small)
    _random_gradients(network, 1000)
    stepper.step(masks, 0.001)
    moved = {name: (network.parameters[name].detach() - before[name]).abs() for name in masks}
    known = torch.cat([moved[name][inside] for name, inside in masks.items()])
    new = torch.cat([moved[name][~inside] for name, inside in masks.items()])
    assert 0.05 * known.mean() < new.mean() < 1.5 * known.mean()


def _updates(pico: Pico, batch: tuple[Any, Tensor], **fields: Any) -> dict[str, Tensor]:
    """The gradients of one micro-batch."""
    spec = _spec(**{"precision": "fp32", **fields})
    network = pico.network()
    task: Any = Classification(5) if not pico.is_text else LanguageModelling(40)
    data: Any = None
    rule = make_rule(spec, network.space)
    trainer = Trainer(network, task, rule, data, RootOptimizer(network, spec), spec)
    trainer.micro_batches.add_gradients(batch, trainer._draw(0, 0, 0))
    return {name: gradient.clone() for name, gradient in network.gradients.items()}


def test_a_sandwich_sums_its_losses_unless_told_to_average_them() -> None:
    pico = PICOS["preact_basic"]
    batch = pico.images(), torch.tensor([0, 1, 2, 3])
    found = {loss: _updates(pico, batch, rule="sandwich", loss=loss) for loss in (None, "sum")}
    mean = _updates(pico, batch, rule="sandwich", loss="mean")
    for name, gradient in mean.items():
        assert torch.equal(found[None][name], found["sum"][name])
        torch.testing.assert_close(found["sum"][name], 4 * gradient)
    one = _updates(pico, batch, rule="sorted", draws=3)
    for name, gradient in _updates(pico, batch, rule="sorted", draws=3, loss="sum").items():
        torch.testing.assert_close(gradient, 3 * one[name])


def test_losses_from_labels_and_from_a_teacher_mix_by_a_share() -> None:
    task = Classification(5, label_smoothing=0.1)
    logits, teacher = torch.randn(2, 7, 5).unbind()
    targets = torch.arange(7) % 5
    labels = F.cross_entropy(logits, targets, label_smoothing=0.1)
    taught = F.cross_entropy(logits, teacher.softmax(1))
    assert torch.equal(task.loss(logits, targets), labels)
    assert torch.equal(task.loss(logits, targets, teacher), taught)
    mixed = task.loss(logits, targets, teacher, share=0.25)
    torch.testing.assert_close(mixed, 0.25 * taught + 0.75 * labels)
    with pytest.raises(ValueError, match="teacher_share needs"):
        _spec(teacher_share=0.5)


class Casts(TorchDispatchMode):
    """Counts casts to bfloat16 of matrices with that many rows."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows, self.count = rows, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and kwargs.get("dtype") is torch.bfloat16:
            self.count += args[0].ndim == 2 and len(args[0]) == self.rows
        return func(*args, **kwargs)


@pytest.mark.parametrize("training_rows", [1, 20])
def test_chunks_of_logits_share_one_cast_of_the_head_and_give_the_same_gradient(
    monkeypatch: pytest.MonkeyPatch, training_rows: int
) -> None:
    """Chunks of seven rows, or of twenty whose loss takes seven at a time."""
    pico = PICOS["llama_apart"]
    inputs: Any = pico.inputs()
    targets = torch.arange(4 * 12).reshape(4, 12) % 40
    whole = _updates(pico, (inputs, targets), rule="sum")
    monkeypatch.setattr("sortednet_cli.tasks.chunks.MAX_CHUNK_LOGITS", 40 * 7)
    monkeypatch.setattr("sortednet_cli.tasks.chunks.TRAINING_ROWS", training_rows)
    for name, gradient in _updates(pico, (inputs, targets), rule="sum").items():
        torch.testing.assert_close(gradient, whole[name], atol=1e-6, rtol=1e-4)
    with Casts(40) as casts:
        _updates(pico, (inputs, targets), rule="sum", precision="bf16")
    assert casts.count == 1


@pytest.mark.parametrize(
    ("num_rows", "num_outputs", "sizes"),
    [
        (1140, 49_152, [1024, 116]),
        (512, 151_936, [512]),
        (10_000, 1000, [8388, 1612]),
        (4, 10, [4]),
        (0, 49_152, []),
    ],
)
def test_chunks_that_get_gradients_have_many_rows(
    num_rows: int, num_outputs: int, sizes: list[int]
) -> None:
    """Each makes a gradient of the whole head: few rows would take as long as many."""
    pieces = list(training_chunks(num_rows, num_outputs))
    assert [piece.stop - piece.start for piece in pieces] == sizes
    assert [row for piece in pieces for row in range(num_rows)[piece]] == list(range(num_rows))


class Noisy(nn.Module):
    """A network with a random buffer that no file holds, and dropout."""

    noise: Tensor

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("noise", torch.rand(width), persistent=False)
        self.first, self.drop = nn.Linear(192, width), nn.Dropout(0.5)
        self.last = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.drop(self.first(x.flatten(1)) + self.noise))
        return out


def test_a_sub_model_built_in_passing_leaves_the_random_stream_alone() -> None:
    factory = "tests.engine.training.test_step:Noisy"
    model = {
        "family": "custom",
        "factory": factory,
        "config": {"width": 8, "num_classes": 5},
        "axes": {"width": {"scales": ["width"]}},
    }
    pico = Pico(model, {"width": [0.5, 1.0]}, image_size=8)
    family = open_family(root_of(ModelSpec.model_validate(model), "classification", {}), [factory])
    assert not family.shares_buffers
    torch.manual_seed(7)
    wanted = torch.rand(3)
    noise = []
    for _ in range(2):
        network = pico.network()
        torch.manual_seed(7)
        noise.append(network.at(width=0.5).noise)
        assert torch.equal(torch.rand(3), wanted)
        torch.manual_seed(7)
        network.standalone(network.space.smallest)
        assert torch.equal(torch.rand(3), wanted)
    assert torch.equal(*noise)


def test_seeding_is_that_of_torch() -> None:
    torch.manual_seed(11)
    wanted = F.dropout(torch.ones(64))
    seed_generators(CPU, 11)
    assert torch.equal(F.dropout(torch.ones(64)), wanted)


def test_bfloat16_is_taken_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for has, limit, wanted in (
        (True, None, True),
        (True, "AVX2", False),
        (True, "avx512_core_bf16", True),
        (False, None, False),
    ):
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda has=has: {"avx512_bf16": has}, raising=False
        )
        monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
        if limit is not None:
            monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
        assert has_bf16(CPU) == in_bf16("auto", CPU) == wanted
        assert in_bf16("bf16", CPU)
        assert not in_bf16("fp32", CPU)
        caplog.clear()
        warn_of_emulation("bf16", CPU)
        warn_of_emulation("auto", CPU)
        assert len(caplog.records) == (not wanted)


def test_a_run_keeps_the_precision_that_it_began_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load_preset("digits-resnet", ["train.updates=1", "train.precision=auto"])
    for has, stored in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(measured, "has_bf16", lambda _, has=has: has)
        fit = create_session(tmp_path / stored, spec, CPU)
        assert fit.run.spec().train.precision == fit.spec.train.precision == stored


def test_a_batch_of_one_that_has_no_variance_is_refused(tmp_path: Path) -> None:
    """The digits have 8 x 8 pixels: after three more halvings one is left."""
    overrides = [
        "train.batch_size=1",
        "train.updates=1",
        "model.config.channels=[4,4,4,4]",
        "model.config.blocks=[1,1,1,1]",
        "model.config.strides=[1,2,2,2]",
        "space.depth=[4]",
        "space.width=[1.0]",
    ]
    with pytest.raises(RequestError, match=r"train\.batch_size = 1"):
        create_session(tmp_path / "run", load_preset("digits-resnet", overrides), CPU)
    assert not (tmp_path / "run").exists()
    spec = load_preset("digits-resnet", [*overrides, "model.config.norm=group"])
    assert list(create_session(tmp_path / "run", spec, CPU).events())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_training_that_stops_where_weights_open_resumes_to_the_same_bytes(
    optimizer: str, tmp_path: Path
) -> None:
    """A checkpoint of before knows what opens next."""
    check_resumes(opening(f"train.optimizer={optimizer}"), tmp_path)
