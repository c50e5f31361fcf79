"""Runs, artifacts and checkpoints with a damaged file: refused by name, and left as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_bad_input import RUN, edit, unfinished
from tests.commands import command, listing, refused


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def foreign(path: Path) -> None:
    header = b'{"other":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}       '
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0")


def text(path: Path) -> None:
    path.write_text("no tensors here")


def huge_header(path: Path) -> None:
    path.write_bytes(b"\xff" * 64)


HARMS = [truncate, foreign, text, huge_header, Path.unlink]


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("file", ["weights.safetensors", "statistics.safetensors"])
def test_damaged_tensors_of_a_run(home: Path, file: str, harm: Any) -> None:
    harm(RUN / file)
    before = listing(home)
    refused(command("eval"), 2, file)
    refused(command("extract"), 2, file)
    assert listing(home) == before


def test_damaged_tensors_of_an_artifact(home: Path) -> None:
    assert command("extract", "--out=cut", "--quiet").code == 0
    whole = Path("cut/model.safetensors").read_bytes()
    for harm in HARMS:
        Path("cut/model.safetensors").write_bytes(whole)
        harm(Path("cut/model.safetensors"))
        before = listing(home)
        refused(command("eval", "cut"), 2, "model.safetensors")
        refused(command("extract", "cut"), 2, "model.safetensors")
        assert listing(home) == before


DAMAGE: list[tuple[str, tuple[str | int, ...], Any]] = [
    ("run.json", ("format",), None),
    ("run.json", ("format",), "one"),
    ("run.json", ("state",), None),
    ("run.json", ("state",), 3),
    ("run.json", ("root",), None),
    ("run.json", ("root",), []),
    ("run.json", ("root", "family"), "vgg"),
    ("run.json", ("root", "config"), 3),
    ("run.json", ("root", "config", "channels"), "wide"),
    ("run.json", ("root", "depth_order"), 3),
    ("run.json", ("data",), None),
    ("run.json", ("data", "classes"), 3),
    ("run.json", ("data", "classes"), None),
    ("run.json", ("data", "mean"), ["a"]),
    ("run.json", ("data", "num_classes"), "ten"),
    ("frontier.json", ("submodels",), None),
    ("frontier.json", ("submodels",), 3),
    ("frontier.json", ("submodels", 0), None),
    ("frontier.json", ("submodels", 0), 3),
    ("frontier.json", ("submodels", 0, "axes"), {"width": "wide"}),
    ("frontier.json", ("submodels", 0, "axes", "depth"), None),
    ("frontier.json", ("submodels", 0, "params"), "many"),
    ("frontier.json", ("submodels", 0, "macs"), None),
    ("frontier.json", ("submodels", 0, "metrics"), {}),
    ("frontier.json", ("submodels", 0, "metrics", "validation"), {}),
    ("frontier.json", ("submodels", 0, "metrics", "validation", "loss"), "small"),
]


@pytest.mark.parametrize(("file", "keys", "value"), DAMAGE)
def test_damaged_json_of_a_run(
    home: Path, file: str, keys: tuple[str | int, ...], value: Any
) -> None:
    edit(RUN / file, *keys, value=value)
    before = listing(home)
    # Recorded costs need no model, so the frontier of these does not see what is wrong with one.
    frontier = ["frontier", RUN, *(["--cost=latency"] if "channels" in keys else [])]
    for arguments in (frontier, ["eval", RUN], ["extract", RUN, "--max-params=1M"]):
        refused(command(*arguments), 2, f"{RUN}")
    done = command("info", RUN)
    assert done.code == 0 or "is damaged" in done.err or "install the package" in done.err
    assert command("eval").code == 2
    assert listing(home) == before


@pytest.mark.parametrize("file", ["run.json", "frontier.json", "spec.toml"])
@pytest.mark.parametrize("content", ["", "[", "[1]", "\udcff", "null"])
def test_unreadable_text_of_a_run(home: Path, file: str, content: str) -> None:
    (RUN / file).write_text(content, errors="surrogateescape")
    before = listing(home)
    for name in ("info", "eval", "extract", "frontier"):
        refused(command(name, RUN), 2, f"{RUN / file}")
    assert listing(home) == before


@pytest.mark.parametrize("file", ["frontier.json", "spec.toml"])
def test_missing_text_of_a_run(home: Path, file: str) -> None:
    (RUN / file).unlink()
    before = listing(home)
    for name in ("info", "eval", "extract", "frontier"):
        refused(command(name, RUN), 2, f"{RUN / file}")
    assert listing(home) == before


def test_newer_format(home: Path) -> None:
    assert command("extract", "--out=cut", "--quiet").code == 0
    edit(RUN / "run.json", "format", value=99)
    edit(Path("cut/sortednet.json"), "format", value=99)
    for path in (RUN, Path("cut")):
        for name in ("info", "eval", "extract", "frontier"):
            refused(command(name, path), 2, f"{path} has format 99", "formats 1 to 2")


MAY_BE_NULL = ("parent", "digest", "base_model")


def test_damaged_manifest_of_an_artifact(home: Path) -> None:
    assert command("extract", "--out=cut", "--quiet").code == 0
    file = Path("cut/sortednet.json")
    whole = file.read_text()
    damage: list[tuple[tuple[str | int, ...], Any]] = [
        *[((key,), None) for key in json.loads(whole) if key not in MAY_BE_NULL],
        *[((key,), 3) for key in ("run", "root", "submodel", "space", "data", "data_spec")],
        (("submodels",), 3),
        (("submodels", 0), None),
        (("submodels", 0, "params"), "many"),
        (("submodel", "axes"), {"width": "wide", "depth": 8}),
        (("submodel", "metrics"), 3),
        (("space", "width"), "wide"),
        (("space", "width"), ["wide"]),
        (("space", "depth"), []),
        (("root", "family"), "vgg"),
    ]
    for keys, value in damage:
        file.write_text(whole)
        edit(file, *keys, value=value)
        before = listing(home)
        needed = keys[0] not in ("versions", "loader", "verified", "plan_digest")
        for name in ("info", "eval", "extract", "frontier") if needed else ("info",):
            done = command(name, "cut")
            if done.code == 0:
                assert name == "info" or keys == ("format",), (keys, value)
                continue
            refused(done, 2, "cut/sortednet.json")
        assert listing(home) == before
    for content in ("", "[1]", "null"):
        file.write_text(content)
        refused(command("info", "cut"), 2, "cut/sortednet.json is damaged")


def test_unfinished_run(home: Path) -> None:
    unfinished()
    before = listing(home)
    for name in ("eval", "extract", "frontier"):
        refused(command(name, RUN), 2, f"sortednet train --resume {RUN}")
        refused(command(name), 2, "no finished run under runs/")
    assert command("info", RUN).code == 0
    assert listing(home) == before


def test_resume_takes_no_settings(home: Path) -> None:
    before = listing(home)
    refused(command("train", "--resume", RUN), 2, f"{RUN} is finished")
    unfinished()
    before = listing(home)
    for setting in ("--preset=digits-resnet", "--set=train.lr=1", "--out=x", "--data=x"):
        refused(command("train", "--resume", RUN, setting), 2, "--resume takes every setting")
    assert listing(home) == before


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        ("checkpoints/latest", lambda path: path.write_text("step-77\n")),
        ("checkpoints/latest", lambda path: path.write_text("")),
        ("checkpoints/step-3/weights.safetensors", truncate),
        ("checkpoints/step-3/weights.safetensors", foreign),
        ("checkpoints/step-3/optimizer.safetensors", truncate),
        ("checkpoints/step-3/optimizer.safetensors", foreign),
        ("checkpoints/step-3/counters.json", lambda path: path.write_text("{}")),
        ("checkpoints/step-3/counters.json", lambda path: path.write_text('{"update": "x"}')),
        ("checkpoints/step-3/counters.json", lambda path: edit(path, "update", value=-1)),
        ("run.json", lambda path: edit(path, "root", value=3)),
        ("run.json", lambda path: edit(path, "data", value=3)),
        ("spec.toml", lambda path: path.write_text("[model]")),
    ],
)
def test_damaged_checkpoint(home: Path, file: str, harm: Any) -> None:
    unfinished()
    harm(RUN / file)
    before = listing(home)
    refused(command("train", "--resume", RUN, "--quiet"), 2, Path(file).name)
    after = listing(home)
    after[str(RUN / ".lock")] = before[str(RUN / ".lock")]
    assert after == before
