"""`train.average`: the moving average of the weights, which a run scores and stores."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sortednet_cli.engine.loaded import load_run
from sortednet_cli.engine.training.average import WeightAverage
from sortednet_cli.engine.training.events import Finished, Interrupted
from sortednet_cli.engine.training.loop import Update
from sortednet_cli.engine.training.session import Session
from sortednet_cli.engine.training.start import create_session, reopen_session
from sortednet_cli.spec import load_preset
from tests.commands import command, refused
from tests.pico import PICOS
from tests.sealing import keep_checkpoints

pytestmark = pytest.mark.filterwarnings("ignore:grad and param do not obey")

CPU = torch.device("cpu")
DECAY = 0.3


def _session(path: Path, *settings: str) -> Session:
    small = ["model.config.channels=[6]", "model.config.blocks=[3]", "space.depth=[1,2,3]",
             "space.width=[0.5,1.0]", "train.batch_size=16", "train.updates=6"]  # fmt: skip
    return create_session(path, load_preset("digits-resnet", [*small, *settings]), CPU)


def _stop_after(number: int) -> Callable[[], bool]:
    calls = count()
    return lambda: next(calls) >= number


def _weights_of_updates(session: Session) -> list[dict[str, Tensor]]:
    trainer, start, _ = session.prepare()
    seen: list[dict[str, Tensor]] = []
    for update in trainer.updates(start, lambda: False):
        assert isinstance(update, Update)
        seen.append({name: p.detach().clone() for name, p in trainer.network.parameters.items()})
    return seen


def test_a_run_stores_the_average_and_trains_as_without(tmp_path: Path) -> None:
    """By the formula, from the weights after each update of a training without an average."""
    seen = _weights_of_updates(_session(tmp_path / "plain"))
    session = _session(tmp_path / "run", f"train.average={DECAY}")
    with keep_checkpoints():
        finished = list(session.events())[-1]
    assert isinstance(finished, Finished)
    expected = {name: weight.double() for name, weight in seen[0].items()}
    for number, weights in enumerate(seen[1:], 2):
        decay = min(DECAY, (1 + number) / (10 + number))
        for name, weight in weights.items():
            expected[name] = decay * expected[name] + (1 - decay) * weight.double()
    stored = load_file(session.run.weights)
    for name, weight in expected.items():
        torch.testing.assert_close(stored[name], weight.float(), rtol=1e-5, atol=1e-6)
    (trained,) = session.run.path.glob("checkpoints/*/weights.safetensors")
    for name, weight in load_file(trained).items():
        assert torch.equal(weight, seen[-1][name])
        assert not torch.equal(weight, stored[name])


def test_the_averaged_weights_are_measured_and_scored(tmp_path: Path) -> None:
    session = _session(tmp_path / "run", "train.average=0.9")
    finished = list(session.events())[-1]
    assert isinstance(finished, Finished)
    source = load_run(tmp_path / "run")
    network = source.network()
    stored = load_file(session.run.weights)
    for row in finished.rows:
        module = network.at(**row.submodel.axes)
        with torch.no_grad():
            found = [source.task.count(source.task.tally(module(images), labels))
                     for images, labels in session.data.test.batches(100, CPU)]  # fmt: skip
        assert source.task.metrics(sum(found), 0) == row.metrics["test"]
    assert all(torch.equal(weight, stored[name]) for name, weight in network.weights.items())


@pytest.mark.parametrize("stop_at", [0, 1, 7, 13])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_resumed_training_ends_with_the_same_average(
    optimizer: str, stop_at: int, tmp_path: Path
) -> None:
    """Stopped before the first update, after it, in the middle of one, and while scoring."""
    settings = ("train.average=0.9", "train.accumulate=2", "train.lr=0.01",
                f"train.optimizer={optimizer}", "train.channels_last=true")  # fmt: skip
    straight, broken = (_session(tmp_path / name, *settings) for name in ("straight", "broken"))
    list(straight.events())
    with pytest.raises(Interrupted):
        list(broken.events(_stop_after(stop_at)))
    list(reopen_session(broken.run, CPU, ()).events())
    for file in ("weights.safetensors", "statistics.safetensors", "frontier.json"):
        assert (straight.run.path / file).read_bytes() == (broken.run.path / file).read_bytes()


def test_weights_that_never_change_are_their_own_average() -> None:
    network = PICOS["preact_basic"].network()
    average = WeightAverage(network, 0.99)
    small = network.plan(network.space.smallest)
    first = {name: p.detach().clone() for name, p in network.parameters.items()}
    generator = torch.Generator().manual_seed(0)
    for number in range(1, 30):
        for piece in small.slices.values():
            if piece.source in network.parameters:
                part = piece.of(network.parameters[piece.source].detach())
                part.add_(torch.rand(part.shape, generator=generator))
        average.add(number)
    for piece in small.slices.values():
        if piece.source in network.parameters:
            inside = piece.mask(first[piece.source].shape)
            same = average.values[piece.source] == first[piece.source]
            assert not same[inside].any()
            assert same[~inside].all()


def test_a_skipped_update_changes_no_average() -> None:
    """Where the device alone knows that it was skipped, and else as where the host knows."""
    network = PICOS["preact_basic"].network()
    host, device = WeightAverage(network, 0.9), WeightAverage(network, 0.9)
    for number in range(1, 6):
        for parameter in network.parameters.values():
            parameter.detach().mul_(1.5).add_(0.1)
        host.add(number)
        device.add(number, skip=torch.tensor(False))
    for name, value in host.values.items():
        torch.testing.assert_close(device.values[name], value)
    before = {name: value.clone() for name, value in device.values.items()}
    for parameter in network.parameters.values():
        parameter.detach().add_(1.0)
    device.add(6, skip=torch.tensor(True))
    assert all(torch.equal(value, before[name]) for name, value in device.values.items())


def test_a_plan_counts_the_average() -> None:
    plans = [
        json.loads(command("info", "--plan", "--preset=digits-resnet", "--json",
                           f"--set=train.average={decay}").out)
        for decay in (0, 0.999)
    ]  # fmt: skip
    without, averaged = (plan["memory_bytes"]["replicated"] for plan in plans)
    assert averaged["optimizer"] == without["optimizer"] + without["weights"]
    disk, more = (plan["disk_bytes"]["checkpoint"] for plan in plans)
    assert more == disk + without["weights"]


@pytest.mark.parametrize("decay", [1, -0.1, "much"])
def test_a_decay_lies_between_zero_and_one(decay: object, tmp_path: Path) -> None:
    done = command("train", "--preset=digits-resnet", f"--set=train.average={decay}",
                   f"--out={tmp_path / 'run'}")  # fmt: skip
    refused(done, 2, "train.average: must be")
    assert not list(tmp_path.iterdir())
