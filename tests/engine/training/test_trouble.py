"""What goes wrong in the middle of a training: one message, and the last good state kept."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sortednet_cli.engine.training.events import Finished, Interrupted
from sortednet_cli.engine.training.session import Session
from sortednet_cli.engine.training.start import create_session, reopen_session
from sortednet_cli.errors import WorkError
from sortednet_cli.machine.memory import describe_pass, enough_memory
from sortednet_cli.space import SubModel
from sortednet_cli.spec import load_preset
from sortednet_cli.storage.checkpoint import load_checkpoint
from sortednet_cli.storage.run import RunFolder
from sortednet_cli.tasks import Classification
from tests.commands import TINY, command, environment, refused

CPU = torch.device("cpu")
SETTINGS = [word.removeprefix("--set=") for word in TINY[1:]]


def _fit(path: Path, *overrides: str) -> Session:
    return create_session(path, load_preset("digits-resnet", [*SETTINGS, *overrides]), CPU)


@pytest.fixture
def spoilt(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Losses of these calls, counted from 0, are no numbers."""
    calls: list[int] = []
    bad: list[int] = []
    plain = Classification.loss

    def loss(self: Classification, logits: Tensor, *others: Tensor | None) -> Tensor:
        calls.append(len(calls))
        found = plain(self, logits, *others)
        return found * math.nan if calls[-1] in bad else found

    monkeypatch.setattr(Classification, "loss", loss)
    return bad


def test_a_loss_that_is_no_number_names_its_origin(tmp_path: Path, spoilt: list[int]) -> None:
    """Update 5 of 6, its second micro-batch; the checkpoint of update 4 is the last."""
    spoilt.append(9)
    settings = ("train.updates=6", "train.accumulate=2", "train.checkpoint_minutes=0.00001")
    fit = _fit(tmp_path / "run", *settings, "train.log_every=1")
    with pytest.raises(WorkError, match=r"update 5: w\S+ on training batch 9") as error:
        list(fit.events())
    lines = fit.run.metrics.read_text().splitlines()
    assert json.loads(lines[-1])["update"] == 4
    saved = load_checkpoint(fit.run)
    assert saved is not None
    assert saved.update == 4
    assert all(bool(torch.isfinite(t).all()) for t in saved.weights.values())
    assert "lower train.lr" in str(error.value)


def test_some_bad_losses_are_passed_over(tmp_path: Path, spoilt: list[int]) -> None:
    """Their updates change nothing; one more than allowed ends the training."""
    spoilt += [1, 3]
    settings = ("train.updates=6", "train.log_every=1", "train.weight_decay=0.1")
    fit = _fit(tmp_path / "run", *settings, "train.max_nonfinite=3")
    assert isinstance(list(fit.events())[-1], Finished)
    losses = [json.loads(line)["loss"] for line in fit.run.metrics.read_text().splitlines()]
    assert [loss is None for loss in losses] == [False, True, False, True, False, False]
    spoilt[:] = [6 + 1, 6 + 3]  # calls are counted on, and scoring makes none
    again = _fit(tmp_path / "again", *settings, "train.max_nonfinite=2")
    with pytest.raises(WorkError, match=r"update 4: .* after 1 that were passed over"):
        list(again.events())


def test_a_resumed_training_counts_bad_losses_on(tmp_path: Path, spoilt: list[int]) -> None:
    spoilt += [1, 4]
    fit, asked = _fit(tmp_path / "run", "train.updates=6", "train.max_nonfinite=2"), count()
    with pytest.raises(Interrupted):
        list(fit.events(lambda: next(asked) >= 3))
    with pytest.raises(WorkError, match=r"update 5: .* after 1 that were passed over"):
        list(reopen_session(fit.run, CPU, ()).events())


def test_an_update_with_a_bad_loss_changes_no_weight(tmp_path: Path, spoilt: list[int]) -> None:
    spoilt.append(2)
    fit = _fit(tmp_path / "run", "train.updates=3", "train.max_nonfinite=2", "train.log_every=1")
    trainer, start, _ = fit.prepare()
    states = []
    for _ in trainer.updates(start, lambda: False):
        states.append({n: p.detach().clone() for n, p in trainer.network.parameters.items()})
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert all(torch.equal(states[1][name], states[2][name]) for name in states[0])


@pytest.mark.parametrize(
    ("channels", "blocks", "lack"),
    [
        (1024, 8, "the root network and its gradient: .*; take a"),
        (512, 1, r"w\S+ on 1000 samples: .*; lower train.batch_size"),
    ],
)
def test_out_of_memory_names_what_had_too_little(
    tmp_path: Path, channels: int, blocks: int, lack: str
) -> None:
    """In a process that may have little more address space than its imports take.

    What it asks for in vain is a large tensor, so that enough is left for small allocations:
    libraries below crash where these fail.
    """
    script = (
        "import resource, sys; from pathlib import Path\n"
        "import sklearn.datasets, torch, torchvision, sortednet_cli.engine.training.session\n"
        "from sortednet_cli.cli.main import run\n"
        "torch.nn.Conv2d(8, 8, 3)(torch.ones(2, 8, 9, 9)).sum().backward()\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (250 << 20), -1))\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    settings = [
        f"--set=model.config.channels=[{channels}]",
        f"--set=model.config.blocks=[{blocks}]",
        f"--set=space.depth=[{blocks}]",
        "--set=train.batch_size=1000",
    ]
    found = subprocess.run(
        [sys.executable, "-c", script, "train", *TINY, *settings, "--out=run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert found.returncode == 1, found
    errors = [line for line in found.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, found
    assert re.search(f"out of memory: {lack}", errors[0]), found
    assert not RunFolder.open(tmp_path / "run").finished


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("could not create a primitive"), "oneDNN could not create a primitive"),
        (RuntimeError("could not execute a primitive"), "oneDNN could not execute a primitive"),
        (MemoryError(), "the allocator has no memory left"),
    ],
)
def test_every_kind_of_lack_is_told(error: Exception, reason: str) -> None:
    with pytest.raises(WorkError) as told, enough_memory("w1", "lower it"):
        raise error
    assert str(told.value) == f"out of memory: w1: {reason}; lower it"


def test_other_errors_are_no_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="a shape"), enough_memory("w1", "lower it"):
        raise RuntimeError("a shape")


def test_resuming_under_another_search_space_is_refused(tmp_path: Path) -> None:
    fit = _fit(tmp_path / "run", "train.updates=3", "train.log_every=1")
    with pytest.raises(Interrupted):
        list(fit.events(lambda: fit.run.metrics.stat().st_size > 0))
    spec = fit.run.path / "spec.toml"
    text = spec.read_text()
    assert "0.5" in text
    spec.write_text(text.replace("0.5,", "0.75,", 1))
    done = command("train", "--resume", fit.run.path)
    refused(done, 2, "another search space", "[0.5, 1]")
    spec.write_text(text)
    assert command("train", "--resume", fit.run.path, "--quiet").code == 0


def test_a_checkpoint_past_the_end_of_its_spec_is_refused(tmp_path: Path) -> None:
    fit = _fit(tmp_path / "run", "train.updates=6", "train.log_every=1")
    with pytest.raises(Interrupted):
        list(fit.events(lambda: fit.run.metrics.read_text().count("\n") >= 3))
    spec = fit.run.path / "spec.toml"
    text = spec.read_text()
    spec.write_text(text.replace("updates = 6", "updates = 2"))
    done = command("train", "--resume", fit.run.path)
    refused(done, 2, "the checkpoint is of update 3", "train.updates = 2")
    spec.write_text(text)
    assert command("train", "--resume", fit.run.path, "--quiet").code == 0


def test_what_one_process_does_is_refused_to_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("extract", "frontier", "generate"):
        refused(command(name), 2, f"{name} runs in one process", "without torchrun")


def test_devices_that_are_not_there(tmp_path: Path) -> None:
    for device in ("cuda:7", "tpu", "mps:9"):
        done = command("train", *TINY, "--device", device, "--out", tmp_path / "run")
        refused(done, 2, "--device", device)
        assert not (tmp_path / "run").exists()


def test_only_what_an_allocator_says_is_about_memory() -> None:
    user = describe_pass([SubModel.of({"width": 1.0})], 2)
    with pytest.raises(RuntimeError, match="shapes"), enough_memory(user, "lower it"):
        raise RuntimeError("shapes do not fit")
    said = "CUDA out of memory. Tried to allocate 2 GiB. GPU 0 is full. If reserved ..."
    with pytest.raises(WorkError) as error, enough_memory(user, "lower it"):
        raise torch.OutOfMemoryError(said)
    assert str(error.value) == (
        "out of memory: w1 on 2 samples: Tried to allocate 2 GiB. GPU 0 is full; lower it"
    )
