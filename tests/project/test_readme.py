"""The README's commands, as written, and its names against the program's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sortednet_cli.spec import presets
from tests.torture import tour

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


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
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    assert ROOT / "CONTRIBUTING.md" in texts
    assert len(texts) > 30
    lost = []
    for page, text in texts.items():
        for link in re.findall(r"\]\((?!https?:)([^)]+)\)", _prose(text)):
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if not target.exists() or (anchor and anchor not in _anchors(texts[target])):
                lost.append(f"{page.relative_to(ROOT)}: {link}")
    assert not lost


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")}
    missing = [str(page) for page in pages if f"]({page.as_posix()})" not in index]
    assert missing == ["README.md"]


def _prose(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def _anchors(text: str) -> set[str]:
    """What a page's headings are called in links, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _prose(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_table_of_presets_is_complete() -> None:
    page = (ROOT / "docs" / "reference" / "presets.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `([\w-]+)` \|", page, flags=re.MULTILINE)) == presets.names()
