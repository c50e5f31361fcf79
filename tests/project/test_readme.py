"""The README's commands, as written, and its names against the program's."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from sortednet_cli.spec import TrainSpec, presets
from tests.torture import tour

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize(
    "before",
    [tour.SHORTER, pytest.param("", marks=pytest.mark.torture)],
    ids=["shorter", "in full"],
)
def test_the_tour_runs_as_written(tmp_path: Path, before: str) -> None:
    """Word for word; but `make torture` alone runs its trainings in full."""
    tour.run(tmp_path, before)
    assert (tmp_path / "frontier.png").stat().st_size > 10_000
    assert (tmp_path / "runs" / "short" / "weights.safetensors").is_file()


def test_the_two_commands_are_make_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ make (\w+)", README, flags=re.MULTILINE)
    assert commands == ["demo", "test"]
    for target in commands:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_links_between_pages_lead_somewhere() -> None:
    pages = {ROOT / "README.md", *DOCS, ROOT / "CHANGELOG.md"}
    texts = {page: page.read_text(encoding="utf-8") for page in pages}
    lost = []
    for page, text in texts.items():
        for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if not target.exists() or (anchor and anchor not in _anchors(texts[target])):
                lost.append(f"{page.name}: {link}")
    assert not lost


def _anchors(text: str) -> set[str]:
    """What a page's headings are called in links, as GitHub makes them."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_table_of_training_keys_is_complete() -> None:
    """Every key with its default, as TOML writes it."""
    page = (ROOT / "docs" / "explanation" / "training.md").read_text(encoding="utf-8")
    shown: dict[str, object] = {}
    for keys, default in re.findall(r"^\| (`.+`) \| (.+?) \| ", page.split("## Keys of")[1], re.M):
        value = None if default == "none" else tomllib.loads(f"x = {default.strip('`')}")["x"]
        shown |= dict.fromkeys(re.findall(r"`(\w+)`", keys), value)
    fields = {name: field.default for name, field in TrainSpec.model_fields.items()}
    assert shown == {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}


def test_the_table_of_presets_is_complete() -> None:
    assert sorted(re.findall(r"^\| `([\w-]+)` \|", README, flags=re.MULTILINE)) == presets.names()
