"""What a shell may rely on: streams, exit codes, JSON, signals, names and start-up time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.commands import TINY, command, environment, listing, shell, start

COMMANDS = ("train", "eval", "frontier", "extract", "report", "presets", "info")
HEAVY = (
    "torch",
    "torchvision",
    "transformers",
    "numpy",
    "matplotlib",
    "pandas",
    "pyarrow",
    "sklearn",
)
ROW_KEYS = {
    "name",
    "axes",
    "params",
    "macs",
    "flops",
    "metrics",
    "split",
    "latency_ms",
    "pareto",
}


def document(*arguments: str | Path) -> Any:
    """Run a command with --json and parse all of its standard output."""
    done = command(*arguments, "--json", "--quiet")
    assert (done.code, done.err) == (0, ""), done
    return json.loads(done.out)


def check_row(row: dict[str, Any], split: str) -> None:
    assert set(row) == ROW_KEYS
    assert row["split"] == split
    assert row["flops"] == 2 * row["macs"] > 0 < row["params"]
    assert set(row["metrics"]) == {"accuracy", "loss"}
    assert row["name"] == f"w{row['axes']['width']:g}-d{row['axes']['depth']}"
    assert row["latency_ms"] is None or row["latency_ms"] > 0


def test_train_prints_its_path_alone_and_takes_free_names(work: Path) -> None:
    first, second = command("train", *TINY), command("train", *TINY)
    assert (first.code, second.code) == (0, 0)
    assert first.out == "runs/digits-resnet\n"
    assert second.out == "runs/digits-resnet-2\n"
    assert "train 3/3" in first.err and "score 4/4" in first.err and "w0.5-d1" in first.err
    for file in ("weights.safetensors", "statistics.safetensors", "frontier.json"):
        assert Path(first.out.strip(), file).read_bytes() == (
            Path(second.out.strip(), file).read_bytes()
        )
    assert document("frontier")["run"] == "runs/digits-resnet-2"
    named = command("train", *TINY, "--out", "deep/down/run", "--quiet")
    assert (named.code, named.out, named.err) == (0, "deep/down/run\n", "")


def test_extract_prints_its_path_alone_and_takes_free_names(home: Path) -> None:
    first, second = command("extract"), command("extract")
    assert (first.code, second.code) == (0, 0)
    assert first.out == "artifacts/digits-resnet-w1-d8\n"
    assert second.out == "artifacts/digits-resnet-w1-d8-2\n"
    assert "verified on 4 samples" in first.err
    names = {"model.safetensors", "config.json", "sortednet.json", "README.md"}
    assert names <= {path.name for path in Path(first.out.strip()).iterdir()}
    assert {path.name for path in (home / "artifacts").iterdir()} == {
        "digits-resnet-w1-d8",
        "digits-resnet-w1-d8-2",
    }


def test_json_of_train(work: Path) -> None:
    found = document("train", *TINY)
    assert set(found) == {"run", "metric", "submodels"}
    assert (found["run"], found["metric"]) == ("runs/digits-resnet", "accuracy")
    assert len(found["submodels"]) == 4
    for row in found["submodels"]:
        check_row(row, "test")


def test_json_of_eval_and_frontier(home: Path) -> None:
    scored = document("eval", "--all")
    assert set(scored) == {"run", "metric", "submodels"}
    for row in scored["submodels"]:
        check_row(row, "test")
        assert row["pareto"] is None
    (one,) = document("eval", "--width=0.5", "--depth=1", "--split=validation")["submodels"]
    check_row(one, "validation")
    assert (one["name"], one["axes"]) == ("w0.5-d1", {"width": 0.5, "depth": 1})
    (largest,) = document("eval")["submodels"]
    assert largest["name"] == "w1-d8"

    found = document("frontier")
    assert set(found) == {"run", "metric", "submodels"}
    for row in found["submodels"]:
        check_row(row, "validation")
    stored = {row["name"]: row for row in found["submodels"]}
    assert stored["w0.5-d1"]["pareto"] is True
    assert stored["w0.5-d1"]["metrics"] == pytest.approx(one["metrics"])
    chosen = document("frontier", "--max-params=1.5k", "--cost=params")["chosen"]
    assert chosen == stored["w1-d1"]
    timed = document("frontier", "--cost=latency")["submodels"]
    assert all(row["latency_ms"] > 0 for row in timed)


def test_json_of_extract(home: Path) -> None:
    found = document("extract", "--max-params=1.5k", "--out=cut")
    assert set(found) == {"path", "submodel", "verified", "loader"}
    assert found["path"] == "cut"
    check_row(found["submodel"], "test")
    assert found["submodel"]["name"] == "w1-d1"
    assert set(found["verified"]) == {"tensors_equal", "max_abs_diff", "samples", "exported"}
    assert found["verified"]["exported"] is None
    assert found["verified"]["tensors_equal"] is True
    assert found["verified"]["samples"] > 0


def test_json_of_info_and_presets(home: Path) -> None:
    assert document("info", "runs/digits-resnet")["state"] == "finished"
    assert set(document("info", "runs/digits-resnet", "--plan")) == {
        "slices",
        "statistics",
        "digest",
    }
    document("extract", "--out=cut")
    assert document("info", "cut")["submodel"] == "w1-d8"
    names = [preset["name"] for preset in document("presets")["presets"]]
    assert "digits-resnet" in names
    for name in names:
        assert document("presets", "show", name)["name"] == name


def test_preset_that_was_shown_trains(work: Path) -> None:
    Path("mine.toml").write_text(command("presets", "show", "digits-resnet").out)
    done = command("train", "--config=mine.toml", *TINY[1:], "--quiet")
    assert (done.code, done.out) == (0, "runs/mine\n")


def test_pipeline_of_commands(home: Path) -> None:
    done = shell(
        "dir=$(sortednet extract --max-params 50k)\n"
        'sortednet eval --json "$dir" | python -m json.tool --compact'
    )
    assert done.code == 0, done
    (row,) = json.loads(done.out)["submodels"]
    check_row(row, "test")
    (expected,) = document("eval", "--width=0.5", "--depth=8")["submodels"]
    assert row["name"] == "w0.5-d8"
    assert row["metrics"] == pytest.approx(expected["metrics"])


def test_failure_in_a_pipeline_is_seen(work: Path) -> None:
    done = shell("sortednet extract | cat")
    assert (done.code, done.out) == (2, "")
    assert done.err.count("error:") == 1


@pytest.mark.parametrize(
    "script",
    [
        "sortednet frontier --all | head -n 1",
        "sortednet frontier --all --json | true",
        "sortednet presets show digits-resnet | true",
        "sortednet --help | true",
    ],
)
def test_closed_pipe_ends_quietly(home: Path, script: str) -> None:
    done = shell(script)
    talk = done.err.replace("using runs/digits-resnet\n", "")
    assert (done.code, talk) == (0, "")


def test_closed_pipe_in_this_process(home: Path) -> None:
    """Enough output to fill the pipe, and a reader that never reads."""
    script = (
        "import sys; from sortednet_cli.cli import main, presets\n"
        "presets.preset_text = lambda name: '# line\\n' * 1_000_000\n"
        "main.run(['presets', 'show', 'digits-resnet']); sys.exit(main.run(['presets']))"
    )
    done = shell(f'"$PYTHON" -c "{script}" | true', PYTHON=sys.executable)
    assert (done.code, done.err) == (0, "")


def test_no_escape_codes_off_a_terminal(home: Path) -> None:
    done = shell("sortednet frontier --all; sortednet train --nope || NO_COLOR=1 sortednet -h")
    assert done.code == 0
    assert "\x1b" not in done.out + done.err
    assert "error: no such option '--nope'; see: sortednet" in done.err


def test_quiet_says_nothing(home: Path) -> None:
    for arguments in (
        ["train", *TINY],
        ["eval", "--all"],
        ["frontier", "--cost=latency", "--plot=a.svg"],
        ["extract", "--max-params=50k"],
        ["report"],
        ["presets"],
        ["info", "runs/digits-resnet"],
    ):
        done = command(*arguments, "--quiet")
        assert (done.code, done.err) == (0, ""), arguments
        assert done.out


def test_plot_is_replaced_whole(home: Path) -> None:
    for name, start_of_file in (("a.svg", b"<?xml"), ("a.png", b"\x89PNG")):
        Path(name).write_text("old")
        done = command("frontier", "--plot", name, "--max-params=50k")
        assert done.code == 0 and f"wrote {name}" in done.err
        assert Path(name).read_bytes().startswith(start_of_file)
    assert {path.name for path in home.iterdir()} == {"runs", "a.svg", "a.png"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_training_goes_on_to_the_same_end(work: Path, number: signal.Signals) -> None:
    updates = ("--set=train.updates=100", "--set=train.log_every=1")
    running = start("train", *TINY, *updates, "--out=halted", "--quiet")
    log = work / "halted" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (log.is_file() and log.read_bytes().count(b"\n") >= 3):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    running.send_signal(number)
    out, err = running.communicate(timeout=120)
    assert (running.returncode, out) == (128 + number, ""), err
    assert "go on with: sortednet train --resume halted" in err
    assert "Traceback" not in err and err.count("error:") == 1
    pointer = (work / "halted" / "checkpoints" / "latest").read_text().strip()
    assert 3 <= int(pointer.removeprefix("step-")) < 100
    assert (work / "halted" / "checkpoints" / pointer / "weights.safetensors").is_file()

    resumed = command("train", "--resume", "halted", "--quiet")
    assert (resumed.code, resumed.out, resumed.err) == (0, "halted\n", "")
    assert command("train", *TINY, *updates, "--out=whole", "--quiet").code == 0
    for name in ("weights.safetensors", "statistics.safetensors", "frontier.json"):
        assert (work / "halted" / name).read_bytes() == (work / "whole" / name).read_bytes()
    numbers = [json.loads(line)["update"] for line in log.read_text().splitlines()]
    assert numbers == list(range(1, 101))


def test_resume_takes_the_newest_unfinished_run(home: Path) -> None:
    manifest = home / "runs" / "digits-resnet" / "run.json"
    manifest.write_text(manifest.read_text().replace('"finished",', '"training",'))
    before = (home / "runs" / "digits-resnet" / "weights.safetensors").read_bytes()
    (home / "runs" / "digits-resnet" / "metrics.jsonl").unlink()
    done = command("train", "--resume", "--quiet")
    assert (done.code, done.out) == (0, "runs/digits-resnet\n")
    assert (home / "runs" / "digits-resnet" / "weights.safetensors").read_bytes() == before


def test_help(work: Path) -> None:
    bare = command()
    assert bare.code == 2
    for name in COMMANDS:
        assert name in bare.err
    for arguments in (["--help"], ["-h"]):
        done = command(*arguments)
        assert (done.code, done.err) == (0, "")
        assert all(name in done.out for name in COMMANDS)
    assert command("--version").out.count(".") >= 1


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_shows_an_example(work: Path, name: str) -> None:
    done = command(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"Example: sortednet {name}" in done.out
    assert "[[" not in done.out


def test_light_commands_import_nothing_heavy(home: Path) -> None:
    """Each in one fresh process: what one of them imports is seen after all of them."""
    light = [
        ["--help"],
        ["train", "--help"],
        ["presets"],
        ["presets", "show", "digits-resnet"],
        ["presets", "show", "nope"],
        ["train", "--nope"],
        ["train", "--preset=nope"],
        ["train", "--preset=digits-resnet", "--set=train.nope=1"],
        ["eval", "--width=x"],
        ["frontier", "--plot=a.jpg"],
        ["report", "--out=a.pdf"],
        ["info"],
        ["info", "runs/digits-resnet"],
        ["info", "cut"],
        ["info", "--check"],
        ["info", "cut", "--check"],
        ["info", "--check", "runs/digits-resnet"],
        ["info", "--check", "cut"],
        ["info", "nowhere"],
        ["eval", "--width=0.3"],
        ["extract", "--depth=99"],
        ["extract", "cut", "--width=0.3"],
        ["generate", "--prompt=a", "--axis=ffn=0.5"],
        ["train", "--resume"],
        ["train", "--resume", "runs/digits-resnet"],
    ]
    document("extract", "--width=0.5", "--depth=1", "--out=cut")
    script = (
        "import json, sys; from sortednet_cli.cli.main import run\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    run(arguments)\n"
        "    found = set(sys.argv[2:]) & set(sys.modules)\n"
        "    assert not found, (arguments, found)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(light), *HEAVY],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr


def test_artifact_of_an_artifact(home: Path) -> None:
    document("extract", "--width=1", "--depth=8", "--out=outer")
    document("extract", "--width=0.5", "--depth=1", "--out=direct")
    before = listing(home / "outer")
    found = document("extract", "outer", "--width=0.5", "--depth=1", "--out=nested")
    assert found["verified"]["tensors_equal"] is True
    assert listing(home / "outer") == before
    direct, nested = (load_file(f"{name}/model.safetensors") for name in ("direct", "nested"))
    assert direct.keys() == nested.keys()
    for name, tensor in direct.items():
        assert tensor.equal(nested[name]), name
    shapes = [Path(name, "config.json").read_text() for name in ("direct", "nested")]
    assert shapes[0] == shapes[1]
    chosen = document("extract", "outer", "--max-params=500", "--out=budget")
    assert chosen["submodel"]["name"] == "w0.5-d1"
    assert document("eval", "nested")["submodels"] == document("eval", "direct")["submodels"]
    refused = command("extract", "direct", "--width=1")
    assert refused.code == 2 and "legal values are 0.5" in refused.err


@pytest.mark.parametrize(("file_format", "file"), [("onnx", "model.onnx"), ("pt2", "model.pt2")])
@pytest.mark.filterwarnings("ignore")
def test_other_file_formats(home: Path, file_format: str, file: str) -> None:
    found = document("extract", "--format", file_format, "--width=0.5", "--depth=1", "--out=cut")
    assert found["verified"]["tensors_equal"] is True
    assert Path("cut", file).stat().st_size > 0
    assert Path("cut", "model.safetensors").is_file()
    assert {path.name for path in home.iterdir()} == {"runs", "cut"}


def test_a_bug_is_told_as_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as a wrong request: the traceback, how to report it, and exit code 1."""

    def broken(path: object) -> None:
        raise KeyError("what nobody thought of")

    monkeypatch.setattr("sortednet_cli.engine.describe", broken)
    done = command("info", "run")
    assert (done.code, done.out) == (1, "")
    assert "Traceback" in done.err and "KeyError: 'what nobody thought of'" in done.err
    assert "this is a bug in sortednet" in done.err.splitlines()[-1]
