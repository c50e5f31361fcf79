"""The reference pages say what the program says of itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from docs.generate import REFERENCE, attribute_docstrings, pages
from sortednet_cli.cli.main import app
from sortednet_cli.spec import ImageDataSpec, TextDataSpec, TrainSpec
from tests.commands import command

ROOT = Path(__file__).parents[2]


def test_no_generated_page_is_stale() -> None:
    """Write them again with `python -m docs.generate`."""
    stale = [p.name for p, text in pages().items() if p.read_text(encoding="utf-8") != text]
    assert not stale, "run: python -m docs.generate"


def test_every_command_and_key_is_on_its_page() -> None:
    commands = (REFERENCE / "commands.md").read_text(encoding="utf-8")
    assert commands.count("\n## sortednet ") == len(app.registered_commands)
    keys = set(re.findall(r"^\| `(\w+)` \|", (REFERENCE / "spec.md").read_text("utf-8"), re.M))
    for model in (TrainSpec, ImageDataSpec, TextDataSpec):
        assert set(model.model_fields) <= keys


@pytest.mark.parametrize(
    "name",
    ["train", "eval", "frontier", "extract", "report", "generate", "serve", "presets", "info"],
)
def test_every_option_of_a_command_is_on_its_page(name: str) -> None:
    """Those too that a command makes from what is registered: `--max-params`, `--format`."""
    page = (REFERENCE / "commands.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## sortednet {name}$(.*?)(?=^## |\Z)", page, re.M | re.S)
    flags = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", command(name, "--help").out, re.M))
    assert {"--help", "--json"} <= flags
    assert flags - {"--help"} == set(re.findall(r"^\| `(--[a-z-]+)`", section, re.M))


def test_the_help_of_an_option_that_repeats_says_so() -> None:
    group: Any = typer.main.get_command(app)
    told = {
        option.opts[0]: "May be repeated." in option.help
        for one in group.commands.values()
        for option in one.params
        if getattr(option, "multiple", False)
    }
    assert told == dict.fromkeys(("--set", "--axis", "--allow-factory", "--stop", "--cost"), True)


def test_every_key_has_a_meaning() -> None:
    for model in (TrainSpec, ImageDataSpec, TextDataSpec):
        own = set(model.model_fields) - set(model.__mro__[1].__annotations__)
        assert own <= {key for key, text in attribute_docstrings(model).items() if text}


def test_every_environment_variable_is_on_its_page() -> None:
    page = (REFERENCE / "environment.md").read_text(encoding="utf-8")
    sources = "".join(p.read_text("utf-8") for p in (ROOT / "sortednet_cli").rglob("*.py"))
    names = set(re.findall(r"\"(SORTEDNET_[A-Z_]+)\"", sources))
    assert len(names) >= 4
    assert names == set(re.findall(r"SORTEDNET_[A-Z_]+", page))
