"""`auto` as precision and memory format: measured at the start, told, and kept by the run."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sortednet_cli.data import nominal_format
from sortednet_cli.engine.training import measured
from sortednet_cli.engine.training.measured import Way, time_passes, with_measured
from sortednet_cli.families import open_family, root_of
from sortednet_cli.machine.graphs import WARMUPS
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import RunSpec, load_preset
from tests.commands import TINY, command

CPU = torch.device("cpu")
FORMAT, PRECISION = "train.channels_last=auto", "train.precision=auto"
FP32, BF16 = Way("fp32"), Way("bf16")
LAST, BF16_LAST = Way("fp32", True), Way("bf16", True)


@pytest.fixture(autouse=True)
def _bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor that has it."""
    monkeypatch.setattr(measured, "has_bf16", lambda _: True)


def _taken(spec: RunSpec) -> Way:
    inputs = nominal_format(spec)
    family = open_family(root_of(spec.model, spec.task, inputs.facts()))
    train = with_measured(spec, family, inputs, CPU).train
    assert train.channels_last != "auto"
    return Way(train.precision, train.channels_last)


def _timed(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> list[Sequence[Way]]:
    """Let passes take so long; return the ways that were timed."""
    asked: list[Sequence[Way]] = []

    def found(*arguments: Any) -> dict[Way, float]:
        asked.append(arguments[-1])
        named = {FP32: "fp32", BF16: "bf16", LAST: "last", BF16_LAST: "bf16_last"}
        return {way: seconds[named[way]] for way in arguments[-1]}

    monkeypatch.setattr(measured, "time_passes", found)
    return asked


@pytest.mark.parametrize(
    ("seconds", "taken"),
    [
        ({"fp32": 1.0, "last": 0.7, "bf16": 0.9, "bf16_last": 0.8}, LAST),
        ({"fp32": 1.0, "last": 0.7, "bf16": 0.9, "bf16_last": 0.5}, BF16_LAST),
        ({"fp32": 1.0, "last": 0.99, "bf16": 0.98, "bf16_last": 1.3}, FP32),
        ({"fp32": 1.0, "last": 1.2, "bf16": 0.6, "bf16_last": 0.59}, BF16),
    ],
)
def test_auto_takes_what_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    seconds: dict[str, float],
    taken: Way,
) -> None:
    asked = _timed(monkeypatch, **seconds)
    with caplog.at_level(logging.INFO, "sortednet"):
        assert _taken(load_preset("digits-resnet", [FORMAT, PRECISION])) == taken
    assert asked == [[FP32, LAST, BF16, BF16_LAST]]
    assert f"auto: passes in {taken} are taken" in caplog.text
    assert f"bf16 {seconds['bf16']:.2f}" in caplog.text


@pytest.mark.parametrize(
    ("preset", "overrides", "taken"),
    [
        ("digits-resnet", (FORMAT, PRECISION, "train.deterministic=true"), BF16),
        ("digits-resnet", ("train.channels_last=false", "train.precision=fp32"), FP32),
        ("digits-resnet", ("train.channels_last=true", "train.precision=bf16"), BF16_LAST),
        ("pydoc-llama", (FORMAT, "train.precision=fp32"), FP32),
        ("pydoc-llama", (PRECISION, "train.shard=true"), BF16),
    ],
)
def test_nothing_is_measured_where_there_is_no_choice(
    monkeypatch: pytest.MonkeyPatch, preset: str, overrides: tuple[str, ...], taken: Way
) -> None:
    asked = _timed(monkeypatch)
    assert _taken(load_preset(preset, list(overrides))) == taken
    assert not asked


def test_a_precision_that_the_processor_lacks_is_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measured, "has_bf16", lambda _: False)
    asked = _timed(monkeypatch, fp32=1.0, last=0.5)
    assert _taken(load_preset("digits-resnet", [FORMAT, PRECISION])) == LAST
    assert asked == [[FP32, LAST]]


def test_a_network_too_large_to_build_twice_is_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = _timed(monkeypatch)
    assert _taken(load_preset("alpaca-llama2-13b", [PRECISION, "train.shard=false"])) == BF16
    assert not asked


def test_a_large_network_keeps_the_default_format(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _timed(monkeypatch)
    monkeypatch.setattr(measured, "_MOST_PARAMS", 1e3)
    assert _taken(load_preset("digits-resnet", [FORMAT, PRECISION])) == BF16
    assert not asked


def test_auto_never_takes_a_wrong_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def overruns(*arguments: Any) -> str | None:
        return None if arguments[-1] else "layer2.0.downsample.0"

    monkeypatch.setattr(measured, "overrunning_layer", overruns)
    asked = _timed(monkeypatch, fp32=1.0, bf16=0.9, bf16_last=0.5)
    assert _taken(load_preset("imagenet-resnet50", [FORMAT, PRECISION])) == BF16_LAST
    assert asked == [[FP32, BF16, BF16_LAST]]


def test_texts_have_one_format(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _timed(monkeypatch, fp32=1.0, bf16=0.5)
    assert _taken(load_preset("pydoc-llama", [FORMAT, PRECISION])) == BF16
    assert asked == [[FP32, BF16]]


@pytest.mark.parametrize(
    ("preset", "overrides", "ways"),
    [
        ("digits-resnet", ["space.depth=[1,2]"], [FP32, LAST, BF16, BF16_LAST]),
        ("pydoc-llama", ["model.config.num_hidden_layers=2", "space.depth=[1,2]"], [FP32, BF16]),
    ],
)
def test_every_way_is_timed(preset: str, overrides: list[str], ways: list[Way]) -> None:
    spec = load_preset(preset, overrides)
    inputs = nominal_format(spec)
    family = open_family(root_of(spec.model, spec.task, inputs.facts()))
    space = SearchSpace.of(spec.space)
    seconds = time_passes(family, space, inputs, spec.train, CPU, ways)
    assert list(seconds) == ways
    assert all(0 < taken < float("inf") for taken in seconds.values())


@pytest.mark.parametrize(("seconds", "passes"), [(0.001, 3 + WARMUPS + 3), (4.0, 2)])
def test_slow_passes_are_few(monkeypatch: pytest.MonkeyPatch, seconds: float, passes: int) -> None:
    """A language model that takes seconds for two texts would else be measured for minutes."""
    asked: list[str] = []

    def runs(self: Any, submodel: SubModel, batch: Any, precision: str) -> float:
        asked.append(precision)
        return seconds / 2 if precision == "bf16" else seconds

    monkeypatch.setattr(measured._Timer, "__call__", runs)
    monkeypatch.setattr(measured, "time_passes", time_passes)
    assert _taken(load_preset("digits-resnet", ["space.depth=[1,2]", PRECISION])) == BF16
    assert asked == ["fp32", "bf16"] * passes * 2  # of a middle and of the largest sub-model


def test_measuring_leaves_the_random_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout draws."""
    monkeypatch.setattr(measured, "time_passes", lambda *_: {FP32: float(torch.rand(()))})
    before = torch.random.get_rng_state()
    assert _taken(load_preset("digits-resnet", [PRECISION])) == FP32
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(("lacking", "taken"), [({"fp32"}, BF16), ({"fp32", "bf16"}, FP32)])
def test_a_way_that_memory_does_not_hold_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    lacking: set[str],
    taken: Way,
) -> None:
    """A training in bfloat16 may fit where one in float32 does not."""

    def runs(self: Any, submodel: SubModel, batch: Any, precision: str) -> float:
        if precision in lacking and len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return 1e-3

    monkeypatch.setattr(measured._Timer, "__call__", runs)
    monkeypatch.setattr(measured, "time_passes", time_passes)
    with caplog.at_level(logging.INFO, "sortednet"):
        assert _taken(load_preset("digits-resnet", ["space.depth=[1,2]", PRECISION])) == taken
    assert caplog.text.count("there is no memory for passes in") == len(lacking)


def test_a_run_keeps_what_was_measured(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "time_passes", time_passes)
    done = command("train", *TINY, f"--set={FORMAT}", "--set=train.precision=fp32")
    assert done.code == 0
    stored = tomllib.loads(Path("runs/digits-resnet/spec.toml").read_text())["train"]
    assert f"auto: passes in {Way('fp32', stored['channels_last'])} are taken" in done.err
