"""Learning rates of weights that few draws train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.engine.training.rates import rare_rates
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.spec import TrainSpec
from tests.commands import TINY, command
from tests.pico import PICOS
from tests.resuming import check_resumes, opening

CPU = torch.device("cpu")


def _stepped(network: NestedNetwork, **fields: Any) -> dict[str, Tensor]:
    """How far each parameter moves in a step on random gradients."""
    begin = {name: p.detach().clone() for name, p in network.parameters.items()}
    for name, gradient in network.gradients.items():
        seed = torch.Generator().manual_seed(len(name))
        gradient.copy_(torch.randn(gradient.shape, generator=seed))
    spec = TrainSpec.model_validate({"updates": 1, "weight_decay": 0.1, **fields})
    RootOptimizer(network, spec).step(network.parameters, lr=0.1)
    return {name: p.detach() - begin[name] for name, p in network.parameters.items()}


@pytest.mark.parametrize(
    "name", ["preact_basic", "mobilenet_v2", "custom", "fused_uneven", "llama"]
)
def test_a_step_is_divided_by_the_root_of_the_share_of_draws(name: str) -> None:
    """Momentum and decay included, and no further than the limit."""
    network, pico = PICOS[name].network(), PICOS[name]
    moved = {rate: _stepped(pico.network(), rare_lr=rate) for rate in (1.0, 1.5)}
    submodels = network.space.submodels
    seen = set()
    for key, whole in moved[1.0].items():
        count = torch.zeros_like(whole)
        for submodel in submodels:
            pieces = {piece.source: piece for piece in network.plan(submodel).slices.values()}
            if key in pieces:
                count += pieces[key].mask(whole.shape)
        rate = (len(submodels) / count).sqrt().clamp(max=1.5)
        seen |= set(rate.flatten().tolist())
        torch.testing.assert_close(moved[1.5][key], rate * whole)
    assert {1.0, 1.5} < seen


def test_what_every_draw_trains_steps_as_ever() -> None:
    """Of a sandwich that is every weight, because the largest sub-model is in all of them."""
    pico = PICOS["preact_basic"]
    plain = _stepped(pico.network(), rule="sandwich")
    for key, whole in _stepped(pico.network(), rule="sandwich", rare_lr=4.0).items():
        assert torch.equal(whole, plain[key])


def test_shares_are_those_of_the_open_space() -> None:
    """While one sub-model is open all of its weights are trained each time."""
    network = PICOS["preact_basic"].network()
    fields = {"updates": 1, "rare_lr": 9.0, "smallest_first": 0.5}
    spec = TrainSpec.model_validate(fields)
    parts = [part for _, part in network.space.growth_schedule()]
    largest = [
        max(float(rate.max()) for rate in rare_rates(network, spec, part.largest).values())
        for part in parts
    ]
    assert largest[0] == 1.0
    assert largest[-1] == pytest.approx(len(network.space) ** 0.5)
    optimizer = RootOptimizer(network, spec)
    optimizer.open(network.space.smallest, network.space.smallest)
    assert all(mask.min() >= 0 for mask in optimizer.step_masks.values())


def test_a_training_that_stops_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    settings = ("train.rare_lr=2.0", "train.crossing_lr=0.5", "model.norms=by-width")
    check_resumes(opening(*settings), tmp_path, stops=(1, 3))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optimizer=adamw", "train.rare_lr is for sgd"),
        ("rule=single", "not for the rule 'single'"),
        ("largest_first=0.5", "not for train.largest_first"),
        ("rare_lr=0.5", "greater than or equal to 1"),
    ],
)
def test_refused_where_it_means_nothing(setting: str, message: str, work: Path) -> None:
    given = [f"--set=train.{setting}", "--set=train.smallest_first=0"]
    more = [] if setting.startswith("rare_lr") else ["--set=train.rare_lr=2.0"]
    done = command("train", *TINY, *more, *given)
    assert done.code == 2 and message in done.err, done
    assert not (work / "runs").exists()
