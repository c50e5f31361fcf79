"""Layer dropout: what a pass without some layers computes and changes, and where it is off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sortednet_cli.engine.planning.costs import compute_of
from sortednet_cli.engine.planning.passes import Route
from sortednet_cli.engine.planning.resources import plan_resources
from sortednet_cli.engine.training.events import Interrupted
from sortednet_cli.engine.training.loop import Position, Trainer
from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.engine.training.start import create_session, reopen_session
from sortednet_cli.errors import RequestError
from sortednet_cli.families import Inputs
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.rules import make_rule
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import RunSpec, TrainSpec, load_preset
from sortednet_cli.storage.run import RunFolder
from sortednet_cli.tasks import LanguageModelling
from tests.commands import command
from tests.pico import PICOS, STOCK_PICOS

pytestmark = pytest.mark.filterwarnings("ignore:grad and param do not obey")

CPU = torch.device("cpu")


def _logits(network: NestedNetwork, inputs: Inputs, skipped: set[int]) -> list[Tensor]:
    """Logits of all depths of the largest width, from the pass that trains them."""
    (group, *_) = network.groups(network.space.submodels[::-1])
    torch.manual_seed(0)
    shared = network.shared_pass(group, training=True)
    shared.skip(skipped)
    return [shared.logits(number, states) for number, states in enumerate(shared.states(inputs))]


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("name", STOCK_PICOS)
def test_a_skipped_layer_passes_its_input_on_and_learns_nothing(name: str, in_place: bool) -> None:
    """As if its output were thrown away, in every architecture, at every exit."""
    pico, skipped = PICOS[name], {1, 2}
    found, wanted = (pico.network(in_place=in_place) for _ in range(2))
    inputs = pico.inputs()
    group = found.groups(found.space.submodels[::-1])[0]
    with found.collecting(group):
        logits = _logits(found, inputs, skipped)
        sum(part.square().sum() for part in logits).backward()  # type: ignore[union-attr]
    layers = wanted.family.layers(wanted.at(wanted.space.largest))
    for number in skipped:
        layers[number].register_forward_hook(lambda _layer, args, _output: args[0])
    with wanted.collecting(group):
        expected = _logits(wanted, inputs, set())
        sum(part.square().sum() for part in expected).backward()  # type: ignore[union-attr]
    for one, other in zip(logits, expected, strict=True):
        assert torch.equal(one, other)
    assert any(gradient.any() for gradient in found.gradients.values())
    for key, gradient in wanted.gradients.items():
        assert torch.equal(found.gradients[key], gradient), key
    again = _logits(found, inputs, set())
    assert not torch.equal(again[0], logits[0])  # nothing is left of it


def test_a_family_whose_layers_do_not_run_one_by_one_says_so() -> None:
    network = PICOS["preact_basic"].network()
    shared = network.shared_pass([network.space.largest], training=True)
    with pytest.raises(RequestError, match=r"train\.layer_dropout: .* set it to 0"):
        shared.skip({1})


class _Batches:
    """A data set of one batch."""

    def __init__(self, inputs: Any) -> None:
        self.batch = inputs, torch.arange(4 * 12).reshape(4, 12) % 40

    def training_batches(self, *_: object, **__: object) -> Iterator[Any]:
        while True:
            yield self.batch


def _trainer(accumulate: int = 1, **fields: object) -> Trainer:
    fields = {"updates": 40, "rule": "sum", "precision": "fp32", **fields}
    spec = TrainSpec.model_validate({**fields, "accumulate": accumulate, "layer_dropout": 0.6})
    pico = PICOS["llama"]
    network, data = pico.network(), _Batches(pico.inputs())
    rule, optimizer = make_rule(spec, network.space), RootOptimizer(network, spec)
    task: Any = LanguageModelling(40)
    return Trainer(network, task, rule, data, optimizer, spec)  # type: ignore[arg-type]


def _run_layers(trainer: Trainer) -> list[int]:
    """Count the calls of each layer from now on."""
    network = trainer.network
    calls = [0] * network.family.num_alike_layers

    def count(number: int) -> Any:
        def hook(*_: object) -> None:
            calls[number] += 1

        return hook

    for submodel in network.space.submodels:
        for number, layer in enumerate(network.family.layers(network.at(submodel))):
            layer.register_forward_hook(count(number))
    return calls


@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_update_leaves_layers_alone_that_all_its_micro_batches_skip(accumulate: int) -> None:
    """No step, no decay, no momentum; and the layer does not run, which saves its time."""
    trainer = _trainer(accumulate, weight_decay=0.1, optimizer="adamw", lr=0.01)
    calls, seen = _run_layers(trainer), set()
    names = {n: [k for k in trainer.network.parameters if f".layers.{n}." in k] for n in range(3)}
    weights = {n: p.detach().clone() for n, p in trainer.network.parameters.items()}
    before, state = list(calls), trainer.optimizer.state()
    for update in trainer.updates(Position(), lambda: False):
        micros = [trainer._skipped(update.number - 1, m, 0) for m in range(accumulate)]
        for layer in range(3):
            ran = sum(layer not in skipped for skipped in micros)
            assert calls[layer] - before[layer] == ran
            seen.add((layer, ran))
            for name in names[layer]:
                same = torch.equal(trainer.network.parameters[name], weights[name])
                assert same == (ran == 0), name
                known = {k: v for k, v in state.items() if k.startswith(f"{name}/")}
                now = {k: v for k, v in trainer.optimizer.state().items() if k in known}
                assert ran > 0 or all(torch.equal(now[key], known[key]) for key in known)
        weights = {n: p.detach().clone() for n, p in trainer.network.parameters.items()}
        state = {key: value.clone() for key, value in trainer.optimizer.state().items()}
        before = list(calls)
    assert {(2, 0), (2, accumulate), (1, 0), (0, accumulate)} <= seen
    assert (0, 0) not in seen


def _spec(*overrides: str) -> RunSpec:
    return load_preset(
        "pydoc-llama",
        [
            *("train.updates=6", "train.batch_size=4", "train.layer_dropout=0.6"),
            *("train.log_every=1", "data.vocab_size=400", "data.max_length=32"),
            *("model.config.hidden_size=16", "model.config.intermediate_size=32"),
            *("model.config.num_hidden_layers=3", "space.depth=[1,2,3]", *overrides),
        ],
    )


@pytest.mark.parametrize("extra", [(), ("train.accumulate=2", "train.optimizer=adamw")])
def test_a_training_that_stops_resumes_to_the_same_bytes(
    extra: tuple[str, ...], tmp_path: Path
) -> None:
    straight = create_session(tmp_path / "straight", _spec(*extra), CPU)
    list(straight.events())
    for count in (2, 5):
        broken = create_session(tmp_path / f"stopped-{count}", _spec(*extra), CPU)
        calls = iter(range(100))
        with pytest.raises(Interrupted):
            list(broken.events(lambda calls=calls, count=count: next(calls) >= count))  # type: ignore[misc]
        list(reopen_session(broken.run, CPU, ()).events())
        assert broken.run.weights.read_bytes() == straight.run.weights.read_bytes(), count
    whole = create_session(tmp_path / "whole", _spec(*extra, "train.layer_dropout=0"), CPU)
    list(whole.events())
    assert whole.run.weights.read_bytes() != straight.run.weights.read_bytes()


def test_scores_are_those_of_whole_sub_models(tmp_path: Path) -> None:
    """Though the last layers were skipped in most micro-batches."""
    spec = _spec("train.layer_dropout=0.99")
    list(create_session(tmp_path / "run", spec, CPU).events())
    table = json.loads((tmp_path / "run" / "frontier.json").read_text())
    done = command("eval", str(tmp_path / "run"), "--all", "--json")
    alone = json.loads(done.out)
    losses = [row["metrics"]["test"]["loss"] for row in table["submodels"]]
    assert losses == [row["metrics"]["loss"] for row in alone["submodels"]]
    assert len(set(losses)) == 3
    assert RunFolder.open(tmp_path / "run").spec().train.layer_dropout == 0.99


def test_a_plan_counts_skipped_layers_as_often_as_they_run() -> None:
    """Depths 1 and 3 of layers of 1000 and a tail of 1, and a teacher, which skips none."""
    space = SearchSpace.of({"depth": [1, 3]})
    routes = {
        s: Route(tuple((f"layer {i}", 1000) for i in range(int(s.axes["depth"]))), 1, 0, 0)
        for s in space.submodels
    }
    train = _spec("train.rule=sorted", "train.distill=true", "train.batch_size=2").train
    found = compute_of(train, make_rule(train, space), space, routes, num_layers=3)
    deep = 1000 + round(1000 * (1 - 0.6 * (2**0.5 - 1))) + round(1000 * (1 - 0.6)) + 1
    assert found.forward == 2 * (deep + 1001) / 2
    assert found.teacher == 2 * 3001 / 2
    plans = [plan_resources(_spec(f"train.layer_dropout={rate}")) for rate in (0, 0.6)]
    assert plans[1].compute.forward < plans[0].compute.forward
