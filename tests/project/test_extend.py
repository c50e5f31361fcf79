"""The page on extending this package: its example works, and its table is what is checked."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from sortednet_cli import extensions
from sortednet_cli.errors import RequestError
from tests.commands import TINY, command
from tests.extension import installed

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "extend.md").read_text()
CLASSES = {
    "sortednet.rules": "sortednet_cli.rules.Rule",
    "sortednet.formats": "sortednet_cli.engine.export.formats.Format",
    "sortednet.trackers": "sortednet_cli.engine.training.trackers.Tracker",
    "sortednet.sources": "sortednet_cli.data.ImageSource",
    "sortednet.costs": "sortednet_cli.engine.evaluation.costs.ComputedCost",
}


def row(group: str) -> list[str]:
    """The last row of a group in the page's table."""
    lines = [line for line in PAGE.splitlines() if line.startswith("|") and f"`{group}`" in line]
    return [cell.strip() for cell in lines[-1].strip("|").split("|")]


def test_every_group_is_in_the_table() -> None:
    groups = {value for value in vars(extensions).values() if str(value).startswith("sortednet.")}
    assert groups == set(re.findall(r"`(sortednet\.[a-z]+)`", PAGE))


@pytest.mark.parametrize("group", CLASSES)
def test_the_table_says_what_a_class_must_have(group: str) -> None:
    module, _, name = CLASSES[group].rpartition(".")
    base = getattr(import_module(module), name)
    _, _, what, must = row(group)
    assert f"`{name}`" in what or f"`{CLASSES[group]}`" in what
    assert f"`{module}" in what
    empty = type("Empty", (base,), {})
    with pytest.raises(RequestError) as refusal:
        extensions.check_class(extensions.EntryPoint("empty", "a:b", group), empty, base)
    lacking = str(refusal.value).partition(" lacks ")[2]
    assert set(lacking.split(", ")) == set(re.findall(r"`([^`]+)`", must))


def test_the_example_trains(work: Path, tmp_path: Path) -> None:
    source = re.search(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
    point = re.search(r'points."(\S+)"\]\n(\w+) = "([^"]+)"', PAGE)
    assert source is not None and point is not None
    files = {"my_package/__init__.py": "", source[1]: source[2]}
    with installed(tmp_path, files, {point[1]: {point[2]: point[3]}}):
        done = command("train", *TINY, f"--set=train.rule={point[2]}", "--quiet")
    assert (done.code, done.err) == (0, ""), done
