"""Trackers: TensorBoard's events, and a tracker of another package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sortednet_cli.engine.training.trackers import Tracker
from sortednet_cli.spec import TrainSpec
from sortednet_cli.spec.vocabulary import TRACKERS
from sortednet_cli.storage.run import RunFolder
from tests.cli.test_bad_input import edit
from tests.commands import TINY, command, listing, refused
from tests.extension import installed
from tests.sealing import unfinished

SOURCE = '''
"""The tracker `lines`: a text file of values."""

from sortednet_cli.engine.training.trackers import Tracker


class Lines(Tracker):
    def __init__(self, run, first):
        folder = run / "lines"
        folder.mkdir(exist_ok=True)
        self.file = (folder / f"{first}.txt").open("w")

    def record(self, update, values):
        for name, value in values.items():
            print(update, name, value, file=self.file)

    def record_frontier(self, rows, picture):
        names = [row["name"] for row in rows if row["pareto"]]
        print("frontier", *names, picture.read_bytes()[1:4].decode(), file=self.file)

    def close(self):
        print("closed", file=self.file)
        self.file.close()


class Failing(Lines):
    def record(self, update, values):
        raise ConnectionError("no server there")


class Unpictured(Lines):
    def record_frontier(self, rows, picture):
        raise ConnectionError("no server there")


class Unclosable(Lines):
    def close(self):
        super().close()
        raise ValueError("cannot close")


class Unopened(Tracker):
    def __init__(self, run, first):
        raise ConnectionError("no server there")

    record = close = None


class Lacking(Unopened):
    @classmethod
    def check(cls):
        from sortednet_cli.errors import RequestError
        raise RequestError("the tracker 'lacking' needs: pip install lacking")
'''
KINDS = ("Lines", "Failing", "Unpictured", "Unclosable", "Unopened", "Lacking")
POINTS = {"sortednet.trackers": {kind.lower(): f"toy_tracker:{kind}" for kind in KINDS}}
ARGUMENTS = (*TINY, "--set=train.log_every=1", "--quiet")


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[None]:
    with installed(tmp_path, {"toy_tracker.py": SOURCE}, POINTS) as files:
        assert files == ["toy_tracker.py"]
        yield


@pytest.mark.parametrize("name", TRACKERS.own)
def test_every_tracker_of_the_package_is_where_the_registry_says(name: str) -> None:
    kind = TRACKERS.load(name, Tracker)
    assert kind.__module__.startswith("sortednet_cli.engine.training.trackers.")


@pytest.mark.usefixtures("toy")
def test_a_tracker_of_another_package(work: Path) -> None:
    chosen = '--set=train.trackers=["lines"]'
    done = command("train", *ARGUMENTS, chosen)
    assert (done.code, done.err) == (0, "")
    run = work / done.out.strip()
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines = (run / "lines" / "1.txt").read_text().splitlines()
    rows = json.loads(command("frontier", run, "--json", "--quiet").out)["submodels"]
    best = " ".join(row["name"] for row in rows if row["pareto"])
    assert lines == [
        *(
            f"{entry['update']} train/{key} {entry[key]}"
            for entry in logged
            for key in ("loss", "lr")
        ),
        f"frontier {best} PNG",
        "closed",
    ]
    assert len(lines) == 2 * 3 + 2
    checked = json.loads(command("info", run, "--check", "--json").out)
    assert checked["unexpected"] == []
    assert command("info", "--plan", *TINY, chosen).code == 0


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("failing", "no server there"),
        ("unpictured", "no server there"),
        ("unclosable", "cannot close"),
    ],
)
def test_a_training_goes_on_without_a_tracker_that_fails(
    work: Path, name: str, reason: str
) -> None:
    chosen = f'--set=train.trackers=["{name}", "lines"]'
    done = command("train", *ARGUMENTS, chosen, "--out=run")
    said = f"the tracker '{name}' failed and is left out: {reason}; metrics.jsonl has its values\n"
    assert (done.code, done.err) == (0, said)
    assert RunFolder.open(work / "run").finished
    assert len((work / "run" / "metrics.jsonl").read_text().splitlines()) == 3
    lines = (work / "run" / "lines" / "1.txt").read_text().splitlines()
    assert lines[-1] == "closed"
    plain = command("train", *ARGUMENTS, "--out=plain")
    assert (plain.code, plain.err) == (0, "")
    weights = [(work / run / "weights.safetensors").read_bytes() for run in ("run", "plain")]
    assert weights[0] == weights[1]


@pytest.mark.usefixtures("toy")
def test_a_training_ends_well_without_room_for_the_picture(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(work / "nowhere"))
    done = command("train", *ARGUMENTS, '--set=train.trackers=["lines"]', "--out=run")
    said = "no tracker gets the frontier: No such file or directory\n"
    assert (done.code, done.err) == (0, said)
    assert (work / "run" / "lines" / "1.txt").read_text().endswith("\nclosed\n")


@pytest.mark.usefixtures("toy")
def test_a_training_ends_well_without_a_picture(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(*_: object) -> None:
        raise TypeError("an offset is missing")

    monkeypatch.setattr("sortednet_cli.engine.training.trackers.frontier.draw_frontier", draw)
    done = command("train", *ARGUMENTS, '--set=train.trackers=["lines"]', "--out=run")
    said = "no tracker gets the frontier: an offset is missing\n"
    assert (done.code, done.err) == (0, said)


@pytest.mark.usefixtures("toy")
def test_a_tracker_that_cannot_open_ends_a_training_that_has_not_begun(work: Path) -> None:
    chosen = '--set=train.trackers=["unopened", "lines"]'
    said = (
        "the tracker 'unopened' failed: no server there; to go on without it, take it out of"
        " [train] in the run's spec.toml\n"
    )
    refused(command("train", *ARGUMENTS, chosen, "--out=run"), 1, said)
    refused(command("train", "--resume", "run", "--quiet"), 1, said)
    assert not (work / "run" / "lines").exists()
    spec = work / "run" / "spec.toml"
    spec.write_text(spec.read_text().replace('    "unopened",\n', ""))
    done = command("train", "--resume", "run", "--quiet")
    assert (done.code, done.err) == (0, "")
    assert len((work / "run" / "lines" / "1.txt").read_text().splitlines()) == 2 * 3 + 2


def test_a_training_resumes_without_a_tracker_that_cannot_open(work: Path, tmp_path: Path) -> None:
    chosen = '--set=train.trackers=["lines"]'
    with installed(tmp_path, {"toy_tracker.py": SOURCE}, POINTS):
        assert command("train", *ARGUMENTS, chosen, "--out=run").code == 0
        unfinished(work / "run")
    away = SOURCE.replace('folder = run / "lines"', "raise OSError('away')")
    with installed(tmp_path, {"toy_tracker.py": away}, POINTS):
        done = command("train", "--resume", "run", "--quiet")
        assert done.code == 0
        said = "the tracker 'lines' failed and is left out: away; metrics.jsonl has its values\n"
        assert done.err == said


def test_what_a_tracker_lacks_at_a_resume_is_told_with_a_way_out(
    work: Path, tmp_path: Path
) -> None:
    with installed(tmp_path, {"toy_tracker.py": SOURCE}, POINTS):
        chosen = '--set=train.trackers=["lines"]'
        assert command("train", *ARGUMENTS, chosen, "--out=run").code == 0
    edit(work / "run" / "run.json", "state", value="training")
    refused(
        command("train", "--resume", "run", "--quiet"),
        2,
        "train.trackers: unknown tracker 'lines'; the trackers are tensorboard, wandb, mlflow,"
        " trackio; install the package that adds it; or, to go on without it, take it out of"
        " [train] in the run's spec.toml",
    )


@pytest.mark.usefixtures("toy")
def test_what_a_tracker_lacks_is_told_before_anything_is_written(work: Path) -> None:
    before = listing(work)
    for setting, said in (
        (
            '["line"]',
            "unknown tracker 'line' (did you mean lines?); the trackers are tensorboard, ",
        ),
        ('["lacking"]', "the tracker 'lacking' needs: pip install lacking"),
    ):
        done = command("train", *ARGUMENTS, f"--set=train.trackers={setting}")
        refused(done, 2, said)
    assert listing(work) == before


@pytest.mark.parametrize(
    "settings",
    [
        {"tensorboard": True},
        {"trackers": ["tensorboard"]},
        {"tensorboard": True, "trackers": ["tensorboard"]},
    ],
)
def test_tensorboard_is_short_for_the_tracker(settings: dict[str, object]) -> None:
    assert TrainSpec.model_validate({"updates": 1, **settings}).tracker_names == ("tensorboard",)


def test_tensorboard_reads_what_was_recorded(work: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = command("train", *ARGUMENTS, '--set=train.trackers=["tensorboard"]')
    assert (done.code, done.err) == (0, "")
    run = work / done.out.strip()
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for key in ("loss", "lr"):
        found = {event.step: event.value for event in events.Scalars(f"train/{key}")}
        assert found == pytest.approx({entry["update"]: entry[key] for entry in logged})
    (image,) = events.Images("frontier")
    assert image.encoded_image_string.startswith(b"\x89PNG")
