"""`train.channels_last = "auto"`: measured at the start, told, and kept by the run."""

from __future__ import annotations

import logging
import tomllib
from pathlib import Path

import pytest
import torch

from sortednet_cli.data import nominal_format
from sortednet_cli.engine.training import memory_format
from sortednet_cli.engine.training.memory_format import with_memory_format
from sortednet_cli.families import open_family, root_of
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import RunSpec, load_preset
from tests.commands import TINY, command

CPU = torch.device("cpu")
AUTO = "train.channels_last=auto"


def _measured(spec: RunSpec, device: torch.device = CPU) -> object:
    inputs = nominal_format(spec)
    family = open_family(root_of(spec.model, spec.task, inputs.facts()))
    return with_memory_format(spec, family, inputs, device).train.channels_last


@pytest.mark.parametrize(("ratio", "chosen"), [(0.7, True), (0.99, False), (1.3, False)])
def test_auto_takes_the_format_that_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ratio: float, chosen: bool
) -> None:
    monkeypatch.setattr(memory_format, "time_in_channels_last", lambda *_: ratio)
    with caplog.at_level(logging.INFO, "sortednet"):
        assert _measured(load_preset("digits-resnet", [AUTO])) is chosen
    assert f"passes in channels_last take {ratio:.2f} of the time" in caplog.text


@pytest.mark.parametrize(
    "overrides",
    [
        (AUTO, "train.deterministic=true"),
        ("train.channels_last=false",),
        ("train.channels_last=true",),
    ],
)
def test_nothing_is_measured_where_the_choice_is_made(
    monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    monkeypatch.setattr(memory_format, "time_in_channels_last", lambda *_: pytest.fail("timed"))
    chosen = _measured(load_preset("digits-resnet", list(overrides)))
    assert chosen is (overrides == ("train.channels_last=true",))


def test_auto_never_takes_a_wrong_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_format, "time_in_channels_last", lambda *_: pytest.fail("timed"))
    monkeypatch.setattr(memory_format, "overrunning_layer", lambda *_: "layer2.0.downsample.0")
    assert _measured(load_preset("imagenet-resnet50", [AUTO])) is False


def test_texts_have_one_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_format, "time_in_channels_last", lambda *_: pytest.fail("timed"))
    assert _measured(load_preset("pydoc-llama", [AUTO])) is False


def test_measuring_draws_no_random_number() -> None:
    spec = load_preset("digits-resnet", [AUTO, "space.depth=[1,2]", "space.width=[0.5,1.0]"])
    inputs = nominal_format(spec)
    family = open_family(root_of(spec.model, spec.task, inputs.facts()))
    space = SearchSpace.of(spec.space)
    before = torch.random.get_rng_state()
    ratio = memory_format.time_in_channels_last(family, space, inputs, spec.train, CPU)
    assert 0 < ratio < float("inf")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_run_keeps_what_was_measured(work: Path) -> None:
    done = command("train", *TINY, f"--set={AUTO}")
    assert done.code == 0
    assert "train.channels_last = auto: " in done.err
    stored = tomllib.loads(Path("runs/digits-resnet/spec.toml").read_text())
    expected = "auto: channels_last" in done.err
    assert stored["train"]["channels_last"] is expected
