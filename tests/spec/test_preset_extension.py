"""Presets of another package: TOML files, and an entry point that names their package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sortednet_cli.spec import presets
from tests.commands import TINY, command, refused
from tests.extension import installed

OWN = presets.text("digits-resnet")
MINE = OWN.replace("# 160 nested", "# Somebody's")
FILES = {"toy/__init__.py": "", "toy/mine.toml": MINE, "toy/read.me": ""}
POINTS = {"sortednet.presets": {"all": "toy"}}


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[None]:
    with installed(tmp_path, FILES, POINTS):
        yield


@pytest.mark.usefixtures("toy")
def test_they_are_listed_shown_and_trained(work: Path) -> None:
    listed = command("presets").out
    assert "mine " in listed and "Somebody's ResNets" in listed and "read" not in listed
    assert command("presets", "show", "mine").out == MINE
    done = command("train", "--preset=mine", *TINY[1:], "--quiet", "--out=run")
    assert (done.code, done.err) == (0, "")
    refused(command("train", "--preset=min"), 2, "unknown preset 'min' (did you mean mine?)")


def test_two_packages_may_call_their_presets_alike(tmp_path: Path) -> None:
    other = {"other/__init__.py": "", "other/theirs.toml": MINE}
    with (
        installed(tmp_path, FILES, POINTS),
        installed(tmp_path, other, {"sortednet.presets": {"all": "other"}}, name="other"),
    ):
        assert {"mine", "theirs", "digits-resnet"} <= set(presets.names())


def test_an_own_preset_is_not_replaced(tmp_path: Path) -> None:
    with installed(tmp_path, {**FILES, "toy/digits-resnet.toml": MINE}, POINTS):
        done = command("presets", "show", "digits-resnet")
    assert (done.code, done.out) == (0, OWN)
    assert done.err.startswith("two presets are named 'digits-resnet': ")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("value", "files", "said"),
    [
        ("nowhere", {}, "No module named 'nowhere'"),
        ("toy", {"toy/__init__.py": "raise OSError('broken')"}, "broken"),
        ("toy:thing", {"toy/__init__.py": ""}, "No module named 'toy:thing'"),
        ("toy", {"toy/__init__.py": "raise SystemExit(3)"}, "3"),
    ],
    ids=["missing", "broken", "object", "exit"],
)
def test_a_broken_package_is_left_out_with_a_warning(
    tmp_path: Path, value: str, files: dict[str, str], said: str
) -> None:
    with installed(tmp_path, files, {"sortednet.presets": {"all": value}}):
        for arguments in (["presets"], ["presets", "show", "digits-resnet"]):
            done = command(*arguments)
            assert done.code == 0 and "ResNets" in done.out
            assert done.err == (
                f"sortednet.presets: 'all' ({value}) is no package of presets that can be imported:"
                f" {said}; it is left out\n"
            )
        done = command("presets", "show", "mine")
        assert done.code == 2 and "error: unknown preset 'mine'" in done.err


@pytest.mark.parametrize("content", ["", "\n", "[model\n", "name = 'x'\n"])
def test_a_wrong_file_disturbs_no_other_preset(tmp_path: Path, content: str) -> None:
    with installed(tmp_path, {**FILES, "toy/wrong.toml": content}, POINTS):
        done = command("presets")
        assert (done.code, done.err) == (0, "")
        assert "wrong\n" in done.out
        refused(command("train", "--preset=wrong"), 2, "preset wrong")
