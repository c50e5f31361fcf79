"""Updates: the optimizer's policy, accumulation, distillation, statistics, resuming."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sortednet_cli.data import Images, open_images
from sortednet_cli.engine.loaded import load_run
from sortednet_cli.engine.training.events import Event, Finished, Interrupted
from sortednet_cli.engine.training.loop import Position, Trainer, total_updates
from sortednet_cli.engine.training.optimizer import RootOptimizer, learning_rate
from sortednet_cli.engine.training.session import Session
from sortednet_cli.engine.training.start import create_session, reopen_session
from sortednet_cli.errors import RequestError, WorkError
from sortednet_cli.families import open_family, root_of
from sortednet_cli.nesting import (
    NestedNetwork,
    broadcast_mask,
    crossing_weights,
    init_network,
    recalibrate,
)
from sortednet_cli.rules import make_rule
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.space.submodel import without_depth
from sortednet_cli.spec import ImageDataSpec, RunSpec, TrainSpec, load_preset
from sortednet_cli.tasks import Classification
from tests.pico import PICOS

pytestmark = pytest.mark.filterwarnings("ignore:grad and param do not obey")

CPU = torch.device("cpu")
TINY = [
    "model.config.channels=[6]",
    "model.config.blocks=[3]",
    "space.width=[0.5,1.0]",
    "space.depth=[1,2,3]",
    "train.batch_size=16",
    "train.log_every=1",
]


def _tiny(*overrides: str) -> RunSpec:
    return load_preset("digits-resnet", [*TINY, "train.updates=6", *overrides])


@pytest.fixture(scope="module")
def digits() -> Images:
    return open_images(ImageDataSpec(source="digits", augment="none"))


def _trainer(spec: RunSpec, digits: Images) -> Trainer:
    family = open_family(root_of(spec.model, "classification", {"channels": 1, "num_classes": 10}))
    space = SearchSpace.of(spec.space)
    network = NestedNetwork(family, space, init_network(family, 0))
    network.enable_training()
    task = Classification(10, spec.train.label_smoothing)
    rule = make_rule(spec.train, space)
    optimizer = RootOptimizer(network, spec.train)
    return Trainer(network, task, rule, digits, optimizer, spec.train)


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        *((model, "adamw") for model in sorted(PICOS) if "depth" in PICOS[model].space),
        *(("preact_basic", optimizer) for optimizer in ("sgd", "rmsprop")),
    ],
)
def test_untouched_tensors_are_left_alone_and_touched_ones_stepped_whole(
    model: str, optimizer: str
) -> None:
    pico = PICOS[model]
    spec = TrainSpec.model_validate({"updates": 1, "optimizer": optimizer, "weight_decay": 0.1})
    network = pico.network()
    stepper = RootOptimizer(network, spec)
    small, large = network.space.smallest, network.space.largest

    def update(submodel: SubModel) -> None:
        network.zero_gradients()
        logits = pico.run(network.at(submodel).train()).flatten(0, -2)
        F.cross_entropy(logits[:4], torch.tensor([0, 1, 2, 3])).backward()
        stepper.step(network.plan(submodel).sources, lr=0.1)

    update(large)
    before = {name: p.detach().clone() for name, p in network.parameters.items()}
    state = {name: value.clone() for name, value in stepper.state().items()}
    update(small)
    touched = network.plan(small).sources & before.keys()  # tied tensors have two names
    assert touched < set(before), "the smallest must leave something untouched"
    for name, parameter in network.parameters.items():
        if name not in touched:
            assert torch.equal(parameter, before[name]), name
            for key, value in stepper.state().items():
                if key.rpartition("/")[0] == name:
                    assert torch.equal(value, state[key]), key
        elif parameter.ndim >= 2:
            # Momentum and decay act on the whole tensor, beyond the slice too; one weight in
            # thousands may round to what it was.
            moved = (parameter != before[name]) | (before[name] == 0)
            assert moved.float().mean() > 0.999, name


def test_rows_outside_the_slice_only_decay_without_momentum() -> None:
    network = PICOS["preact_basic"].network()
    spec = TrainSpec.model_validate(
        {"updates": 1, "momentum": 0.0, "weight_decay": 0.1, "decay": "weights"}
    )
    small = network.space.smallest
    before = {name: p.detach().clone() for name, p in network.parameters.items()}
    network.zero_gradients()
    network.at(small).train()(PICOS["preact_basic"].images()).square().sum().backward()
    RootOptimizer(network, spec).step(network.plan(small).sources, lr=0.1)
    for piece in network.plan(small).slices.values():
        parameter, old = network.parameters[piece.source].detach(), before[piece.source]
        outside = ~piece.mask(parameter.shape)
        shrink = 1 - 0.1 * 0.1 if parameter.ndim >= 2 else 1.0
        torch.testing.assert_close(parameter[outside], shrink * old[outside])


def _stepped(network: NestedNetwork, spec: TrainSpec, opened: SubModel | None) -> dict[str, Tensor]:
    """What one step at gradients of the whole root moves each parameter by."""
    begin = {name: p.detach().clone() for name, p in network.parameters.items()}
    for name, gradient in network.gradients.items():
        seed = torch.Generator().manual_seed(len(name))
        gradient.copy_(torch.randn(gradient.shape, generator=seed))
    stepper = RootOptimizer(network, spec)
    if opened is not None:
        stepper.open(opened, opened)
    stepper.step(network.parameters, lr=0.1)
    return {name: p.detach() - begin[name] for name, p in network.parameters.items()}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
@pytest.mark.parametrize("name", ["preact_basic", "mobilenet_v2", "custom"])
def test_crossing_weights_have_their_part_of_the_learning_rate(name: str, optimizer: str) -> None:
    """Of any optimizer's step, decay included; at 0 they stay where they are."""
    moved = {}
    for part in (1.0, 0.25, 0.0):
        spec = TrainSpec.model_validate(
            {"updates": 1, "optimizer": optimizer, "crossing_lr": part, "weight_decay": 0.1}
        )
        network = PICOS[name].network()
        moved[part] = _stepped(network, spec, None)
    masks = crossing_weights(network)
    assert masks
    for key, whole in moved[1.0].items():
        crossing = torch.zeros_like(whole, dtype=torch.bool)
        if key in masks:
            crossing |= broadcast_mask(masks[key], whole)
        for part in (0.25, 0.0):
            assert torch.equal(moved[part][key][~crossing], whole[~crossing])
            torch.testing.assert_close(moved[part][key][crossing], part * whole[crossing])


def test_crossing_weights_of_any_precision() -> None:
    pico = PICOS["custom"]
    family = pico.family()
    module = init_network(family, 0).double()
    network = NestedNetwork(family, pico.search_space, module)
    network.enable_training()
    spec = TrainSpec.model_validate({"updates": 1, "crossing_lr": 0.25})
    assert all(float(moved.abs().max()) > 0 for moved in _stepped(network, spec, None).values())


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *((name, 1.0) for name in sorted(PICOS)),
        *((name, 0.5) for name in ("preact_basic", "mobilenet_v2", "custom")),
    ],
)
def test_a_step_ends_where_the_open_space_does(name: str, part: float) -> None:
    """No decay beyond it, in any family; within it the step is the ordinary one."""
    pico = PICOS[name]
    fields = {"updates": 1, "weight_decay": 0.1, "decay": "all", "crossing_lr": part}
    spec = TrainSpec.model_validate(fields)
    whole = _stepped(pico.network(), spec, None)
    network = pico.network()
    parts = [part.largest for _, part in network.space.growth_schedule()]
    opened = [s for s in parts if without_depth(s) != without_depth(network.space.largest)][-1]
    found = _stepped(network, spec, opened)
    closed = 0
    for piece in network.plan(opened).slices.values():
        if piece.source in found:
            outside = ~piece.mask(whole[piece.source].shape)
            assert not found[piece.source][outside].any()
            assert torch.equal(found[piece.source][~outside], whole[piece.source][~outside])
            closed += int(outside.sum())
    assert closed


def test_an_update_is_the_mean_gradient_of_its_micro_batches(digits: Images) -> None:
    spec = _tiny("train.accumulate=2", "train.rule=sandwich", "train.num_random=1",
                 "train.loss=mean")  # fmt: skip
    trainer = _trainer(spec, digits)
    twin = copy.deepcopy(trainer.network.module)
    next(trainer.updates(Position(), lambda: False))
    found = {name: g.clone() for name, g in trainer.network.gradients.items()}
    alone = NestedNetwork(trainer.network.family, trainer.network.space, twin)
    expected = {name: torch.zeros_like(g) for name, g in found.items()}
    drawn = [share for micro in range(2) for share in _draw(trainer, 0, micro)]
    for position, (submodel, weight) in enumerate(drawn):
        images, labels = digits.training_batch(
            position // 3, batch_size=16, seed=spec.train.seed, device=CPU
        )
        module = alone.standalone(submodel).train()
        (F.cross_entropy(module(images), labels) * weight / 2).backward()
        for name, parameter in module.named_parameters():
            piece = trainer.network.plan(submodel).slices[name]
            assert parameter.grad is not None
            piece.of(expected[piece.source]).add_(parameter.grad)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def _draw(trainer: Trainer, update: int, micro: int):  # type: ignore[no-untyped-def]
    from random import Random

    from sortednet_cli.seeds import stream_seed

    return trainer.rule.draw(Random(stream_seed(trainer.spec.seed, "rule", update, micro)))


@pytest.mark.parametrize("rule", ["sorted", "sandwich", "sum", "sandwich-sum"])
def test_distillation_teaches_all_but_the_largest(rule: str, digits: Images) -> None:
    spec = _tiny(f"train.rule={rule}", "train.distill=true", "train.label_smoothing=0.1")
    trainer = _trainer(spec, digits)
    seen = []
    original = Classification.loss

    def spy(self, logits, labels, teacher=None, *others):  # type: ignore[no-untyped-def]
        seen.append(teacher)
        return original(self, logits, labels, teacher, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classification, "loss", spy)
        updates = list(trainer.updates(Position(), lambda: False))
    flat = [s for i in range(6) for s, _ in _draw(trainer, i, 0)]
    assert len(updates) == 6
    assert [teacher is None for teacher in seen] == [
        s == trainer.network.space.largest for s in flat
    ]
    assert all(not teacher.requires_grad for teacher in seen if teacher is not None)


def test_a_training_begins_with_the_largest_alone(digits: Images) -> None:
    """Resumed in the middle, it knows how far it is."""
    trainer = _trainer(_tiny("train.rule=sorted", "train.largest_first=0.5"), digits)
    largest = trainer.network.space.largest
    updates = list(trainer.updates(Position(), lambda: False))
    assert [update.submodels == (largest,) for update in updates[:3]] == [True] * 3
    later = [update.submodels for update in updates[3:]]
    assert later == [tuple(s for s, _ in _draw(trainer, index, 0)) for index in (3, 4, 5)]
    assert any(submodels != (largest,) for submodels in later)
    resumed = list(trainer.updates(Position(2, 2), lambda: False))
    assert [update.submodels for update in resumed] == [u.submodels for u in updates[2:]]


@pytest.mark.parametrize("processes", [1, 2])
def test_the_largest_is_in_every_update(processes: int, digits: Images) -> None:
    """In the first of six micro-batches, whichever process takes it."""
    spec = _tiny("train.rule=sorted", "train.draws=1", "train.smallest_first=0",
                 f"train.accumulate={6 // processes}", "train.always_largest=true")  # fmt: skip
    trainer, ranks = _trainer(spec, digits), range(processes)
    trainer.processes = replace(trainer.processes, count=processes)
    drawn = [
        [
            trainer._draw(index, micro, rank)[0][0]
            for micro in range(6 // processes)
            for rank in ranks
        ]
        for index in range(6)
    ]
    space = trainer.network.space
    assert all(submodels[0] == space.largest for submodels in drawn)
    assert {submodel for _, *others in drawn for submodel in others} == set(space.submodels)


@pytest.mark.parametrize("stop_at", [3, 4])
def test_a_resumed_training_has_the_largest_in_its_updates(stop_at: int, tmp_path: Path) -> None:
    spec = _tiny("train.accumulate=2", "train.always_largest=true", "train.draws=1")
    straight, broken = (_fit(tmp_path / name, spec) for name in ("straight", "broken"))
    list(straight.events())
    with pytest.raises(Interrupted):
        list(broken.events(_stop_after(stop_at)))
    list(reopen_session(broken.run, CPU, ()).events())
    assert straight.run.weights.read_bytes() == broken.run.weights.read_bytes()
    assert straight.run.metrics.read_bytes() == broken.run.metrics.read_bytes()


def test_what_is_not_open_yet_keeps_its_first_weights(digits: Images) -> None:
    """Two widths and three depths in four of five updates."""
    spec = _tiny("train.updates=5", "train.smallest_first=0.8", "train.weight_decay=0.1",
                 "space.width=[0.5, 1.0]", "space.depth=[1, 2, 3]")  # fmt: skip
    trainer = _trainer(spec, digits)
    network = trainer.network
    begin = {name: p.detach().clone() for name, p in network.parameters.items()}
    smallest = network.plan(network.space.smallest)
    for update in trainer.updates(Position(), lambda: False):
        if update.position.update == 1:
            assert update.submodels == (network.space.smallest,)
            for piece in smallest.slices.values():
                if piece.source in begin:
                    same = network.parameters[piece.source].detach() == begin[piece.source]
                    inside = piece.mask(same.shape)
                    assert not same[inside].all()
                    assert same[~inside].all()
    assert any(
        (network.parameters[piece.source].detach() != begin[piece.source])[-1].any()
        for piece in smallest.slices.values()
        if piece.source in begin and piece.shape[0] < len(begin[piece.source])
    )


def test_learning_rate_schedules() -> None:
    def rates(**fields: object) -> list[float]:
        spec = TrainSpec.model_validate({"updates": 10, "lr": 1.0, "warmup": 0.0, **fields})
        return [learning_rate(spec, update, 10) for update in range(10)]

    assert rates(schedule="constant") == [1.0] * 10
    assert rates(schedule="step", lr_drops=[0.5, 0.8]) == pytest.approx(
        [1.0] * 5 + [0.1] * 3 + [0.01] * 2
    )
    assert rates(schedule="exponential", lr_end=0.1)[5] == pytest.approx(0.1**0.5)
    cosine = rates(schedule="cosine")
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[0] == 1.0
    assert cosine[5] == pytest.approx(0.5)
    assert rates(schedule="constant", warmup=0.2)[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_epochs_and_updates() -> None:
    spec = TrainSpec.model_validate({"epochs": 3, "accumulate": 2})
    assert total_updates(spec, batches_per_epoch=10) == 15
    assert total_updates(TrainSpec.model_validate({"updates": 7}), 10) == 7
    tiny = TrainSpec.model_validate({"epochs": 0.01})
    assert total_updates(tiny, batches_per_epoch=10) == 1


def test_recalibration_is_the_mean_over_batches_and_changes_one_submodel_only() -> None:
    pico = PICOS["preact_basic"]
    network = pico.network(training=False)
    small, large = network.space.smallest, network.space.largest
    other = {n: b.clone() for n, b in network.at(large).named_buffers()}
    # A small last batch weighs as much as its samples.
    batches = [pico.images() * scale for scale in (1.0, 2.0)] + [pico.images(2) * 30.0]
    module = network.at(small)
    found = recalibrate(network.family, [small], network.at, batches)[small]
    assert not module.training
    first = next(name for name in found if name.endswith("running_mean"))
    path = first.rpartition(".")[0]
    seen = []
    handle = module.get_submodule(path).register_forward_pre_hook(lambda m, x: seen.append(x[0]))
    with torch.no_grad():
        for batch in batches:
            module(batch)
    handle.remove()
    torch.testing.assert_close(found[first], torch.cat(seen).mean((0, 2, 3)))
    spread_out = [len(x) / 10 * x.var((0, 2, 3)) for x in seen]
    variance = first.replace("running_mean", "running_var")
    torch.testing.assert_close(found[variance], torch.stack(spread_out).sum(0))
    assert all(torch.equal(b, other[n]) for n, b in network.at(large).named_buffers())


def _fit(path: Path, spec: RunSpec) -> Session:
    return create_session(path, spec, CPU)


def _stop_after(count: int):  # type: ignore[no-untyped-def]
    calls = iter(range(10_000))
    return lambda: next(calls) >= count


@pytest.mark.parametrize(
    ("stop_at", "optimizer", "channels_last"),
    [(0, "sgd", "false"), (3, "adamw", "true"), (7, "sgd", "true"), (11, "adamw", "false")],
)
def test_resumed_equals_uninterrupted(
    tmp_path: Path, optimizer: str, stop_at: int, channels_last: str
) -> None:
    """Stopped between and inside updates; weights, statistics and metrics are bit-identical."""
    settings = (f"train.optimizer={optimizer}", f"train.channels_last={channels_last}")
    spec = _tiny(*settings, "train.accumulate=2", "train.lr=0.01")
    straight = _fit(tmp_path / "straight", spec)
    list(straight.events())
    broken = _fit(tmp_path / "broken", spec)
    with pytest.raises(Interrupted, match="--resume"):
        list(broken.events(_stop_after(stop_at)))
    assert not broken.run.finished
    again = reopen_session(broken.run, CPU, ())
    list(again.events())
    for file in ("weights.safetensors", "statistics.safetensors", "metrics.jsonl", "frontier.json"):
        one, two = (tmp_path / run / file for run in ("straight", "broken"))
        assert one.read_bytes() == two.read_bytes(), file
    lines = again.run.metrics.read_text().splitlines()
    assert [json.loads(line)["update"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_interrupting_the_scoring_loses_nothing(tmp_path: Path) -> None:
    fit = _fit(tmp_path / "run", _tiny())
    updates = 6  # the two widths are scored one after the other
    with pytest.raises(Interrupted, match="scoring"):
        list(fit.events(_stop_after(updates + 1)))
    events: list[Event] = list(reopen_session(fit.run, CPU, ()).events())
    assert isinstance(events[-1], Finished)


def test_divergence_fails_and_leaves_the_run_unfinished(tmp_path: Path) -> None:
    fit = _fit(tmp_path / "run", _tiny("train.lr=1e30", "train.warmup=0.0"))
    with pytest.raises(WorkError, match="diverged"):
        list(fit.events())
    with pytest.raises(RequestError, match="--resume"):
        load_run(fit.run.path)


def test_a_loaded_run_gives_ready_modules(tmp_path: Path) -> None:
    fit = _fit(tmp_path / "run", _tiny())
    finished = list(fit.events())[-1]
    assert isinstance(finished, Finished)
    source = load_run(tmp_path / "run")
    network = source.network()
    for row in finished.rows:
        module = network.at(**row.submodel.axes)
        assert not module.training
        with torch.no_grad():
            found = [
                source.task.count(source.task.tally(module(images), labels))
                for images, labels in fit.data.test.batches(100, CPU)
            ]
        assert source.task.metrics(sum(found), 0) == row.metrics["test"]


def test_training_learns(tmp_path: Path) -> None:
    """Not only runs: a short training beats chance by far for every sub-model."""
    wider = ["model.config.channels=[16]", "train.batch_size=64"]
    spec = _tiny(*wider, "train.updates=200", "train.lr=0.1")
    finished = list(_fit(tmp_path / "run", spec).events())[-1]
    assert isinstance(finished, Finished)
    assert min(row.metrics["test"]["accuracy"] for row in finished.rows) > 0.5
