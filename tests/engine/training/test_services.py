"""The trackers of services, with stand-ins of their packages.

`python -m benchmarks.trackers` tries the packages themselves; its result is part of these tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sortednet_cli.engine.training.trackers import base, tracking
from sortednet_cli.engine.training.trackers.mlflow import MLflow
from sortednet_cli.errors import WorkError
from sortednet_cli.spec.vocabulary import TRACKERS
from tests.cli.test_bad_input import edit
from tests.commands import TINY, command, refused_all
from tests.extension import installed
from tests.sealing import unfinished

ROOT = Path(__file__).parents[3]
TRIED = json.loads((ROOT / "benchmarks" / "results" / "trackers.json").read_text())

CALLS = """
import json
from pathlib import Path

def read_start(path):
    return Path(path).read_bytes()[1:4].decode()

def noted(call, /, **arguments):
    with open("calls.jsonl", "a") as file:
        print(json.dumps([call, arguments]), file=file)
"""

WANDB = (
    CALLS
    + """
import os

class Settings:
    def __init__(self, silent, console):
        assert silent and console == "off"

def setup(settings):
    assert isinstance(settings, Settings)

def login(prompt, verify):
    assert not prompt and not verify
    return "WANDB_API_KEY" in os.environ

def Image(path):
    return read_start(path)

def Table(columns, data):
    return [columns, *data]

class init:
    def __init__(self, *, settings, **arguments):
        noted("init", **arguments)

    def log(self, values, step=None):
        noted("log", step=step, **values)

    def finish(self, exit_code):
        noted("finish", how={0: "FINISHED", 1: "FAILED"}[exit_code])
"""
)

MLFLOW = (
    CALLS
    + """
from types import SimpleNamespace

class MlflowClient:
    def __init__(self, tracking_uri):
        noted("open", uri=tracking_uri)

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name, artifact_location):
        noted("experiment", name=name, place=artifact_location)
        return "7"

    def create_run(self, experiment, run_name):
        noted("create", experiment=experiment, name=run_name)
        return SimpleNamespace(info=SimpleNamespace(run_id="one"))

    def update_run(self, run, status):
        noted("update", run=run, status=status)

    def log_batch(self, run, metrics=(), params=()):
        assert len(params) <= 100
        for key, value in params:
            noted("param", key=key, value=value)
        for key, value, time, step in metrics:
            noted("log", run=run, step=step, **{key: value})

    def get_metric_history(self, run, key):
        lines = [json.loads(line) for line in Path("calls.jsonl").read_text().splitlines()]
        steps = [values["step"] for name, values in lines if name == "log" and key in values]
        return [SimpleNamespace(step=step) for step in steps]

    def log_dict(self, run, table, name):
        noted("table", run=run, name=name, rows=table["submodels"])

    def log_artifact(self, run, path):
        if path.endswith(".png"):
            noted("picture", run=run, start=read_start(path))
        else:
            noted("file", run=run, text=Path(path).read_text())

    def set_terminated(self, run, status):
        noted("finish", run=run, how=status)
"""
)
ENTITIES = """
def Param(*values):
    return values

def Metric(*values):
    return values
"""

TRACKIO = (
    CALLS
    + """
def Image(path):
    return read_start(path)

def Table(columns, data):
    return [columns, *data]

class init:
    def __init__(self, **arguments):
        print("* Trackio project initialized")
        noted("init", **arguments)

    def log(self, values, step=None):
        noted("log", step=step, **values)

def finish():
    print("* Run finished")
    noted("finish")
"""
)

FILES: dict[str, dict[str, str]] = {
    "wandb": {"wandb.py": WANDB},
    "mlflow": {
        "mlflow/__init__.py": MLFLOW,
        "mlflow/entities.py": ENTITIES,
        "sqlalchemy.py": "",
        "alembic.py": "",
    },
    "trackio": {"trackio.py": TRACKIO},
}
VARIABLES = (
    *("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT", "WANDB_NAME"),
    *("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"),
    *("TRACKIO_PROJECT", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"),
)
SAID = {
    "wandb": "the tracker 'wandb' has no API key: the record stays in run/wandb; upload it with:"
    " wandb sync run/wandb/offline-run-*",
    "mlflow": "the tracker 'mlflow' has no MLFLOW_TRACKING_URI: the record stays in run/mlflow;"
    " show it with: mlflow ui --backend-store-uri sqlite:///run/mlflow/mlflow.db",
    "trackio": "the tracker 'trackio' has no TRACKIO_SPACE_ID or TRACKIO_SERVER_URL: the record"
    " stays on this machine; show it with: trackio show --project sortednet",
}
Calls = list[tuple[str, dict[str, Any]]]


@pytest.fixture(autouse=True)
def _no_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=FILES)
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The name of a tracker, whose package is replaced while the test runs."""
    with installed(tmp_path, FILES[request.param], {}):
        yield request.param


def train(name: str, *words: str, quiet: bool = True) -> str:
    """Train three updates; return what was said on standard error."""
    words = ("train", *TINY, "--set=train.log_every=1", f"--set=train.trackers=['{name}']", *words)
    done = command(*words, "--out=run", *(["--quiet"] if quiet else []))
    assert (done.code, done.out) == (0, "run\n"), done
    return done.err


def calls() -> Calls:
    return [json.loads(line) for line in Path("calls.jsonl").read_text().splitlines()]


def losses(found: Calls) -> list[tuple[int, float]]:
    named = [values for name, values in found if name == "log" and "train/loss" in values]
    return [(values["step"], values["train/loss"]) for values in named]


def logged() -> list[tuple[int, float]]:
    lines = (Path("run") / "metrics.jsonl").read_text().splitlines()
    return [(entry["update"], entry["loss"]) for entry in map(json.loads, lines)]


def test_values_and_the_frontier_are_recorded(work: Path, service: str) -> None:
    assert train(service) == ""
    found = calls()
    assert losses(found) == logged() and len(logged()) == 3
    assert found[-1][0] == "finish"
    rows = json.loads(command("frontier", "run", "--json", "--quiet").out)["submodels"]
    if service == "mlflow":
        (table,) = (values["rows"] for name, values in found if name == "table")
        assert table == rows
        assert [values["start"] for name, values in found if name == "picture"] == ["PNG"]
        return
    last = found[-2][1]
    assert last["frontier"] == "PNG"
    columns, *cells = last["submodels"]
    for row, line in zip(rows, cells, strict=True):
        said = dict(zip(columns, line, strict=True))
        assert said == {
            **{key: value for key, value in row.items() if not isinstance(value, dict)},
            **row["axes"],
            **row["metrics"],
        }


def test_a_resumed_run_continues_its_record(work: Path, service: str) -> None:
    train(service)
    unfinished(Path("run"))
    began = len(calls())
    assert command("train", "--resume", "run", "--quiet").code == 0
    first, second = calls()[:began], calls()[began:]
    assert [name for name, _ in second][-1] == "finish" and not losses(second)
    key = {"wandb": "id", "mlflow": "run", "trackio": "name"}[service]
    ids = {values[key] for name, values in first + second if values.get(key) and name != "create"}
    assert len(ids) == 1
    assert "create" not in [name for name, _ in second]


@pytest.mark.parametrize("service", ["wandb", "mlflow"], indirect=True)
def test_how_a_training_ended_is_told(work: Path, service: str) -> None:
    train(service)
    assert calls()[-1][1]["how"] == "FINISHED"
    with pytest.raises(WorkError), tracking([service], Path("run"), 4):
        raise WorkError("the loss is not finite")
    assert calls()[-1][1]["how"] == "FAILED"


def test_a_killed_run_records_its_updates_again(work: Path, service: str) -> None:
    """Where the service does not know them: MLflow is asked, and is not told twice."""
    train(service)
    edit(Path("run/run.json"), "state", value="training")
    assert command("train", "--resume", "run", "--quiet").code == 0
    again = 1 if service == "mlflow" else 2
    assert losses(calls()) == again * logged()


@pytest.mark.parametrize("name", FILES)
def test_without_an_account_it_stays_here_and_says_so_once(
    work: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with installed(tmp_path, FILES[name], {}):
        assert train(name, quiet=False).count(SAID[name]) == 1
        arguments = dict(calls()[0][1])
        if name == "wandb":
            assert arguments["mode"] == "offline"
            assert (arguments["project"], arguments["name"]) == ("sortednet", "run")
            assert (arguments["dir"], arguments["resume"]) == ("run", "allow")
        elif name == "mlflow":
            assert arguments == {"uri": f"sqlite:///{work}/run/mlflow/mlflow.db"}
            assert calls()[1][1]["place"] == (work / "run/mlflow/artifacts").as_uri()
            params = {values["key"]: values["value"] for key, values in calls() if key == "param"}
            assert params["train.updates"] == "3" and params["space.width"] == "[0.5, 1.0]"
        else:
            assert (arguments["project"], arguments["resume"]) == ("sortednet", "allow")


@pytest.mark.parametrize(
    ("name", "variables", "wanted"),
    [
        ("wandb", {"WANDB_API_KEY": "key"}, {"mode": None, "project": "sortednet"}),
        ("wandb", {"WANDB_MODE": "online"}, {"mode": None}),
        ("wandb", {"WANDB_PROJECT": "mine", "WANDB_NAME": "a"}, {"project": "mine", "name": "a"}),
        ("mlflow", {"MLFLOW_TRACKING_URI": "http://there"}, {"uri": "http://there"}),
        ("trackio", {"TRACKIO_SPACE_ID": "me/mine", "TRACKIO_PROJECT": "p"}, {"project": "p"}),
    ],
)
def test_its_own_variables_say_where(
    work: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    variables: Mapping[str, str],
    wanted: Mapping[str, object],
) -> None:
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    with installed(tmp_path, FILES[name], {}):
        err = train(name, quiet=False)
    assert (SAID[name] in err) == ("WANDB_PROJECT" in variables)
    arguments = calls()[0][1]
    assert {key: arguments[key] for key in wanted} == wanted
    if name == "mlflow":
        assert calls()[1] == ["experiment", {"name": "sortednet", "place": None}]


def test_what_no_parameter_of_mlflow_can_hold_is_in_a_file(
    work: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Long values are cut, and names with other signs are left out; the file is whole."""
    run, long = work / "run", "/data" * 200
    run.mkdir()
    text = f'name = "x"\n[data]\npath = "{long}"\n[model.fused]\n"blocks.*.qkv" = 3\n'
    (run / "spec.toml").write_text(text)
    with installed(tmp_path, FILES["mlflow"], {}), caplog.at_level("INFO"):
        MLflow(run, 1)
    params = {values["key"]: values["value"] for key, values in calls() if key == "param"}
    assert params == {"name": "x", "data.path": long[:500]}
    assert ["file", {"run": "one", "text": text}] in calls()
    said = (
        "MLflow's parameters cannot hold data.path, model.fused.blocks.*.qkv whole: see spec.toml"
    )
    assert caplog.text.count(said) == 1


@pytest.mark.parametrize("name", TRACKERS.own)
def test_an_extra_that_is_not_installed(
    work: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(base, "find_spec", lambda module: None)
    words = ["train", *TINY, f"--set=train.trackers=['{name}']"]
    said = f"the tracker '{name}' needs: pip install '.[{name}]' in your checkout"
    refused_all(work, [words], said)


def test_a_local_mlflow_needs_a_database_too(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = base.find_spec
    monkeypatch.setattr(base, "find_spec", lambda name: name != "alembic" and real(name))
    words = ["train", *TINY, "--set=train.trackers=['mlflow']"]
    with installed(tmp_path, FILES["mlflow"], {}):
        refused_all(work, [words], "pip install '.[mlflow]' in your checkout")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there")
        assert command(*words, "--quiet").code == 0


def test_a_tracker_that_does_not_exist(work: Path) -> None:
    words = ["train", *TINY, "--set=train.trackers=['wandbb']"]
    said = "unknown tracker 'wandbb' (did you mean wandb?); the trackers are tensorboard, wandb, "
    refused_all(work, [words], said)


def test_the_packages_themselves_were_tried() -> None:
    """One run after a resume, every update, every sub-model, the picture; stdout is data."""
    assert [trial["tracker"] for trial in TRIED["trackers"]] == list(TRACKERS.own)
    for trial in TRIED["trackers"]:
        assert trial["records"] == 1
        assert sorted(map(int, trial["losses"])) == [1, 2, 3, 4]
        assert trial["same_losses"] and trial["same_rows"] and trial["picture"]
        assert trial["prints_the_path_alone"]
