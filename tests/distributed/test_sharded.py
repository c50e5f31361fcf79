"""Sharded training by real processes: the same training, its checkpoints, and what is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sortednet_cli.data import Texts, open_data
from sortednet_cli.engine.training.events import Finished
from sortednet_cli.engine.training.loop import Trainer
from sortednet_cli.engine.training.start import create_session, reopen_session
from sortednet_cli.families import open_family, root_of
from sortednet_cli.nesting import init_network
from sortednet_cli.spec import RunSpec, dump_spec
from sortednet_cli.storage.run import RunFolder
from tests.commands import TINY, command, environment, refused
from tests.distributed.test_processes import (
    KEEPING,
    _counters,
    _done,
    _job,
    _messages,
    _processes,
    _wait_for_checkpoint,
)
from tests.sealing import keep_checkpoints
from tests.sharded_job import CASES, CPU, spec_of

pytestmark = pytest.mark.filterwarnings("ignore:grad and param do not obey")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sharded run of every case, all of one job of two processes."""
    folder = tmp_path_factory.mktemp("shards")
    _save_stock(folder)
    launch = ["torchrun", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, "--no-python", "python", "-m", "tests.sharded_job", folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=Path(__file__).parents[2],
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    return folder


def _save_stock(folder: Path) -> None:
    """A pretrained model in several files, of other values than any seed gives."""
    spec = spec_of(folder)
    data = open_data(spec.data, spec.task)
    assert isinstance(data, Texts)
    family = open_family(root_of(spec.model, spec.task, data.format.facts()))
    module: Any = init_network(family, seed=77)
    module.save_pretrained(folder / "stock", max_shard_size="6KB")
    data.tokenizer.save_pretrained(folder / "stock")
    assert len(list((folder / "stock").glob("*.safetensors"))) > 2


def _plain(path: Path, spec: RunSpec, processes: int, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Train alone what `processes` would: their batches, and one draw for all of them."""
    number = Trainer._number

    def same_for_all(self: Trainer, micro: int, rank: int) -> int:
        return number(self, micro // processes, rank)

    monkeypatch.setattr(Trainer, "_number", same_for_all)
    each = {"accumulate": spec.train.accumulate * processes, "shard": False}
    spec = spec.model_copy(update={"train": spec.train.model_copy(update=each)})
    if path.exists():
        (path / "spec.toml").write_text(dump_spec(spec))
        fit = reopen_session(RunFolder.open(path), CPU, ())
    else:
        fit = create_session(path, spec, CPU)
    with keep_checkpoints():
        assert isinstance(list(fit.events())[-1], Finished)
    return fit.run


def _same_files(found: Path, expected: Path) -> None:
    one, other = load_file(found), load_file(expected)
    assert one.keys() == other.keys()
    for name, tensor in other.items():
        # Sums have another order: equal to rounding of the largest.
        near = max(1e-6, 1e-5 * float(tensor.abs().max()))
        torch.testing.assert_close(one[name], tensor, rtol=1e-4, atol=near, msg=name)


def _lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", CASES)
def test_sharded_processes_are_one_plain_process(
    name: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses, weights, optimizer state and scores; tensors that no pass touched are left alone."""
    found = shards / "sharded" / name
    expected = _plain(tmp_path / "run", spec_of(shards, *CASES[name]), 2, monkeypatch).path
    for one, other in zip(_lines(found), _lines(expected), strict=True):
        assert one["submodels"] == other["submodels"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    _same_files(found / "weights.safetensors", expected / "weights.safetensors")
    (state,) = expected.glob("checkpoints/*/optimizer.safetensors")
    _same_files(found / state.relative_to(expected), state)
    tables = [json.loads((run / "frontier.json").read_text()) for run in (found, expected)]
    for one, other in zip(*(table["submodels"] for table in tables), strict=True):
        assert one["axes"] == other["axes"]
        for part in ("validation", "test"):
            loss = other["metrics"][part]["loss"]
            assert one["metrics"][part]["loss"] == pytest.approx(loss, rel=1e-5)


def test_the_cases_leave_a_layer_alone(shards: Path) -> None:
    """Else the test above would not show that such layers are left alone."""
    drawn = [set(line["submodels"]) for line in _lines(shards / "sharded" / "sorted")]
    assert any("d3" not in names for names in drawn)
    assert any("d3" in names for names in drawn)


def _settings(folder: Path, **train: Any) -> Path:
    """A spec file that the command takes."""
    spec = spec_of(folder)
    spec = spec.model_copy(update={"train": spec.train.model_copy(update=train)})
    path = folder / "shards.toml"
    path.write_text(dump_spec(spec))
    return path


def _set_updates(run: Path, updates: int) -> RunSpec:
    spec = RunFolder.open(run).spec()
    spec = spec.model_copy(update={"train": spec.train.model_copy(update={"updates": updates})})
    (run / "spec.toml").write_text(dump_spec(spec))
    return spec


def test_a_checkpoint_of_two_goes_on_under_one_plain_and_three_sharded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three hold parts of other, uneven sizes; a constant rate, so that the end may be moved."""
    run = tmp_path / "three"
    spec = _settings(
        tmp_path, updates=100000, checkpoint_minutes=1e-4, schedule="constant", warmup=0.0
    )
    job = _job(2, "train", "--config", spec, "--out", run)
    _wait_for_checkpoint(run, updates=3)
    job.send_signal(signal.SIGINT)
    done = _done(job)
    assert done.code != 0
    assert _messages(done) == 1, done
    saved = _counters(run)["update"]
    assert f"stopped after update {saved}; go on with" in done.err
    assert _counters(run)["batches"] == 2 * saved
    spec_after = _set_updates(run, saved + 3)
    shutil.copytree(run, tmp_path / "one")
    resumed = _done(_job(3, "train", "--resume", run, program=(KEEPING,)))
    assert resumed.code == 0, resumed
    assert resumed.out == f"{run}\n"
    alone = _plain(tmp_path / "one", spec_after, 3, monkeypatch)
    assert _counters(run)["batches"] == 2 * saved + 9
    _same_files(run / "weights.safetensors", alone.weights)
    state = Path("checkpoints") / f"step-{saved + 3}" / "optimizer.safetensors"
    _same_files(run / state, alone.path / state)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stop_that_one_process_hears_alone_stops_all(rank: int, tmp_path: Path) -> None:
    """The others are in a pass by then, and must not wait there for the one that has left."""
    run = tmp_path / "run"
    spec = _settings(tmp_path, updates=100000, checkpoint_minutes=1e-4)
    job = _job(2, "train", "--config", spec, "--out", run)
    _wait_for_checkpoint(run, updates=2)
    os.kill(_processes(run)[rank], signal.SIGINT)
    done = _done(job)
    assert done.code != 0
    assert _messages(done) == 1, done
    assert f"stopped after update {_counters(run)['update']}; go on with" in done.err


def test_a_lost_process_leaves_the_last_checkpoint_and_says_so(tmp_path: Path) -> None:
    """What the others hold is a part of the weights: they cannot save it."""
    run = tmp_path / "run"
    spec = _settings(tmp_path, updates=100000, checkpoint_minutes=1e-4)
    job = _job(2, "train", "--config", spec, "--out", run)
    _wait_for_checkpoint(run, updates=2)
    os.kill(_processes(run)[1], signal.SIGKILL)
    done = _done(job)
    assert done.code != 0
    assert _messages(done) == 1, done
    told = re.search(r"has died; update (\d+) is saved; go on with: .*--resume", done.err)
    assert told is not None, done
    assert int(told.group(1)) == _counters(run)["update"]


def test_one_process_holds_everything(tmp_path: Path) -> None:
    """Nothing to share out: the plain training, bit for bit, which a spec may still ask for."""
    weights = []
    for shard in ("true", "false"):
        spec = spec_of(tmp_path, f"train.shard={shard}", "train.rule=sorted", "train.updates=2")
        fit = create_session(tmp_path / shard, spec, CPU)
        assert isinstance(list(fit.events())[-1], Finished)
        weights.append(load_file(fit.run.weights))
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


LLAMA = ("--preset=pydoc-llama", "--set=train.shard=true")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((*LLAMA, "--set=space.width=[0.5,1.0]"), "needs the axis depth alone, not width"),
        ((*LLAMA, "--set=space={ffn=[0.5,1.0]}"), "needs the axis depth alone, not ffn"),
        ((*LLAMA, "--set=train.diverse_ranks=true"), "train.diverse_ranks: under train.shard"),
        (
            (*TINY, "--set=train.shard=true"),
            "cannot be sharded, only bert, roberta, ",
        ),
        (
            (*LLAMA, "--set=model.pretrained=here", "--set=model.reorder=importance"),
            "model.reorder is for narrower",
        ),
    ],
)
def test_what_cannot_be_sharded_is_refused_with_the_reason(
    arguments: tuple[str, ...], reason: str, work: Path
) -> None:
    refused(command("train", *arguments), 2, reason)
    assert not (work / "runs").exists()


def test_refusing_takes_no_torch() -> None:
    code = (
        "import sys\n"
        "from sortednet_cli.errors import RequestError\n"
        "from sortednet_cli.spec import load_preset\n"
        "try:\n"
        "    load_preset('digits-resnet', ['train.shard=true'])\n"
        "except RequestError:\n"
        "    assert 'torch' not in sys.modules\n"
        "else:\n"
        "    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ranks_are_not_diverse_where_they_hold_parts(tmp_path: Path) -> None:
    assert not spec_of(tmp_path).train.diverse_ranks
    assert spec_of(tmp_path, "train.shard=false").train.diverse_ranks
