"""Several processes, real ones started by torchrun: the same training, and how it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sortednet_cli.cli import main
from sortednet_cli.data import open_images
from sortednet_cli.spec import ImageDataSpec
from tests.commands import Done, command, environment
from tests.fixtures.make import SETTINGS
from tests.torture.cases import CASES, write_text

KEEPING = Path(__file__).with_name("keeping.py")


def _job(
    processes: int,
    *arguments: str | Path,
    restarts: int = 0,
    program: Sequence[str | Path] = ("--no-python", "sortednet"),
) -> subprocess.Popen[str]:
    launch = ["--standalone", f"--nproc-per-node={processes}", f"--max-restarts={restarts}"]
    return subprocess.Popen(
        ["torchrun", *launch, *map(str, program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def _done(job: subprocess.Popen[str]) -> Done:
    out, err = job.communicate(timeout=240)
    return Done(job.returncode, out, err)


def _same(one: Path, other: Path) -> None:
    """To rounding: sums over processes and over micro-batches have another order."""
    for name in ("weights", "statistics"):
        found = load_file(one / f"{name}.safetensors")
        expected = load_file(other / f"{name}.safetensors")
        assert found.keys() == expected.keys()
        for key, tensor in expected.items():
            torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.parametrize(
    "extra",
    [
        (),
        ("--set=train.rule=sandwich", "--set=train.distill=true"),
        ("--set=model.norms=by-width", "--set=train.average=0.9", "--set=train.rare_lr=3"),
    ],
)
def test_two_processes_are_one_with_twice_the_micro_batches(
    tmp_path: Path, extra: tuple[str, ...]
) -> None:
    """Weights, statistics, losses and scores, for sub-models that differ between ranks."""
    settings = (*SETTINGS, *extra, "--set=train.updates=6", "--set=train.log_every=1")
    two = _done(_job(2, "train", *settings, "--out", tmp_path / "two"))
    assert two.code == 0, two
    assert two.out == f"{(tmp_path / 'two').absolute()}\n"
    assert two.err.count("trained in") == 1
    one = command("train", *settings, "--set=train.accumulate=2", "--out", tmp_path / "one")
    assert one.code == 0, one
    _same(tmp_path / "two", tmp_path / "one")
    logs = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("two", "one")
    ]
    for found, expected in zip(*logs, strict=True):
        assert found["submodels"] == expected["submodels"]
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    tables = [json.loads((tmp_path / n / "frontier.json").read_text()) for n in ("two", "one")]
    axes = [[row["axes"] for row in table["submodels"]] for table in tables]
    assert axes[0] == axes[1]
    scores = _done(_job(2, "eval", tmp_path / "two", "--all", "--json"))
    alone = command("eval", tmp_path / "two", "--all", "--json")
    assert json.loads(scores.out) == json.loads(alone.out)


def test_two_processes_skip_the_layers_that_one_would(tmp_path: Path) -> None:
    """Each its own; what both skip is left alone by both."""
    text = write_text(tmp_path / "topics.txt")
    settings = (*CASES[3].arguments, "--data", text, "--set=train.layer_dropout=0.9")
    two = _done(_job(2, "train", *settings, "--out", tmp_path / "two"))
    assert two.code == 0, two
    settings = (*settings, "--set=train.accumulate=2")
    assert command("train", *map(str, settings), "--out", tmp_path / "one").code == 0
    _same(tmp_path / "two", tmp_path / "one")


def test_without_diversity_every_process_trains_the_same(tmp_path: Path) -> None:
    settings = (*SETTINGS, "--set=train.log_every=1", "--set=train.diverse_ranks=false")
    done = _done(_job(2, "train", *settings, "--out", tmp_path / "run"))
    assert done.code == 0, done
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [len(json.loads(line)["submodels"]) for line in lines] == [1, 1, 1]


def test_a_checkpoint_of_two_goes_on_under_one_and_under_three(tmp_path: Path) -> None:
    """An epoch stays an epoch: what one process does in the rest, three do in a third."""
    settings = (*SETTINGS[:1], *SETTINGS[2:], "--set=train.epochs=0.5", "--set=train.log_every=1")
    settings = (*settings, "--set=train.batch_size=16", "--set=train.checkpoint_minutes=0.0001")
    job = _job(2, "train", *settings, "--out", tmp_path / "run")
    _wait_for_checkpoint(tmp_path / "run", updates=5)
    job.send_signal(signal.SIGINT)
    assert _done(job).code != 0
    counters = _counters(tmp_path / "run")
    done, batches = counters["update"], counters["batches"]
    assert batches == 2 * done
    resumed = _done(_job(3, "train", "--resume", tmp_path / "run", program=(KEEPING,)))
    assert resumed.code == 0, resumed
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    updates = [json.loads(line)["update"] for line in lines]
    assert updates == list(range(1, len(updates) + 1))
    digits = open_images(ImageDataSpec(source="digits"))
    total, per_epoch = _counters(tmp_path / "run")["batches"], digits.batches_per_epoch(16)
    assert abs(total - 0.5 * per_epoch) <= 2 + 3  # an update of each job


def test_one_message_for_a_wrong_request(tmp_path: Path) -> None:
    for arguments in (
        ("train", "--preset=nonesuch"),
        ("train", "--preset=digits-resnet", "--set=model.config.channels=[0]"),
        ("train", "--preset=digits-resnet", "--set=train.batch_size=1000"),
    ):
        done = _done(_job(2, *arguments, "--out", tmp_path / "run"))
        assert done.code != 0
        assert _messages(done) == 1, done
        assert not (tmp_path / "run").exists()


def test_the_first_tells_though_another_is_faster(tmp_path: Path) -> None:
    """`torchrun` ends every process with the first that ends."""
    slow = (
        "import os, sys, time\n"
        "if os.environ['RANK'] == '0': time.sleep(4)\n"
        "from sortednet_cli.cli.main import main\n"
        "main()\n"
    )
    script = tmp_path / "slow.py"
    script.write_text(slow)
    done = _done(_job(2, "train", "--preset=nonesuch", program=(script,)))
    assert _messages(done) == 1, done
    assert "nonesuch" in done.err


def test_what_python_does_at_its_end_cannot_fail_a_job(tmp_path: Path) -> None:
    """Threads of torch are still there by then, and may abort the process."""
    script = tmp_path / "abort_at_exit.py"
    script.write_text(
        "import atexit, os\n"
        "atexit.register(os.abort)\n"
        "from sortednet_cli.cli.main import main\n"
        "main()\n"
    )
    done = _done(_job(2, "train", *SETTINGS, "--out", tmp_path / "run", program=(script,)))
    assert done.code == 0, done
    assert done.out == f"{(tmp_path / 'run').absolute()}\n"


def test_one_that_alone_cannot_go_on_tells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main, "_is_first", False)
    monkeypatch.setattr(main, "_REPORT_DELAY_SECONDS", 0.0)
    assert main.run(["train", "--preset=nonesuch"]) == 2
    assert "nonesuch" in capsys.readouterr().err


def test_more_processes_than_data(tmp_path: Path) -> None:
    done = _done(
        _job(2, "train", *SETTINGS, "--set=train.batch_size=1000", "--out", tmp_path / "run")
    )
    assert "2 processes need as many batches" in done.err
    assert _messages(done) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_job_and_loses_nothing_saved(tmp_path: Path, victim: int) -> None:
    run = tmp_path / "run"
    settings = (*SETTINGS[:1], *SETTINGS[2:], "--set=train.updates=100000")
    job = _job(2, "train", *settings, "--set=train.checkpoint_minutes=0.0001", "--out", run)
    _wait_for_checkpoint(run, updates=5)
    os.kill(_processes(run)[victim], signal.SIGKILL)
    done = _done(job)
    assert done.code != 0
    assert _messages(done) == 1, done
    assert "has died" in done.err
    assert "--resume" in done.err
    saved = _counters(run)["update"]
    assert saved >= 5
    spec = run / "spec.toml"
    spec.write_text(spec.read_text().replace("100000", str(saved + 3)))
    resumed = _done(_job(2, "train", "--resume", run))
    assert resumed.code == 0, resumed


def test_torchrun_restarts_what_died(tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = (*SETTINGS[:1], *SETTINGS[2:], "--set=train.updates=300", "--set=train.log_every=1")
    arguments = ("train", *settings, "--set=train.checkpoint_minutes=0.0001", "--out", run)
    job = _job(2, *arguments, restarts=1)
    _wait_for_checkpoint(run, updates=5)
    os.kill(_processes(run)[1], signal.SIGKILL)
    done = _done(job)
    assert done.code == 0, done
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["update"] for line in lines] == list(range(1, 301))


def _counters(run: Path) -> dict[str, int]:
    name = (run / "checkpoints" / "latest").read_text().strip()
    counters: dict[str, int] = json.loads(
        (run / "checkpoints" / name / "counters.json").read_text()
    )
    return counters


def _wait_for_checkpoint(run: Path, updates: int) -> None:
    for _ in range(1200):
        try:
            if _counters(run)["update"] >= updates:
                return
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
    raise AssertionError(f"no checkpoint of {updates} updates came")


def _processes(run: Path) -> list[int]:
    """The processes that train a run, in the order of their ranks."""
    ranks = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            words = (process / "cmdline").read_bytes().split(b"\0")
            variables = (process / "environ").read_bytes().split(b"\0")
            found = [v for v in variables if v.startswith(b"RANK=")]
            if found and str(run).encode() in words:
                ranks[int(found[0].partition(b"=")[2])] = int(process.name)
    return [ranks[rank] for rank in sorted(ranks)]


def _messages(done: Done) -> int:
    return sum(line.startswith("error:") for line in done.err.splitlines())
