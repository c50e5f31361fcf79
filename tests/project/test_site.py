"""The documentation site: every page is in its navigation, and it works from disk."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.site import PAGES, SITE, sources
from tests.browser import chromium, needs_browser, requests, resize

ROOT = Path(__file__).parents[2]
CONFIG: Any = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]


def _named(entry: Any) -> Iterator[str]:
    """The pages of an entry of the navigation, and of those below it."""
    if isinstance(entry, str):
        yield entry
        return
    for below in entry.values() if isinstance(entry, dict) else entry:
        yield from _named(below)


def test_every_page_is_in_the_navigation_once() -> None:
    pages = [path for path in sources() if path.suffix == ".md"]
    assert len(pages) > 40
    assert sorted(_named(CONFIG["nav"])) == sorted(p.relative_to(ROOT).as_posix() for p in pages)


def test_the_site_is_built_where_its_settings_say() -> None:
    assert (ROOT / CONFIG["docs_dir"], ROOT / CONFIG["site_dir"]) == (PAGES, SITE)
    assert "build/" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


def test_every_picture_is_shown_and_its_command_told() -> None:
    texts = [path.read_text(encoding="utf-8") for path in sources() if path.suffix == ".md"]
    pictures = {path.name for path in (ROOT / "docs" / "images").iterdir()}
    assert pictures == set(re.findall(r"!\[[^\]]*\]\([./\w]*images/([^)]+)\)", "".join(texts)))
    page = (ROOT / "docs" / "how-to" / "reproduce.md").read_text(encoding="utf-8")
    table = page.partition("## A picture")[2].partition("\n## ")[0]
    assert pictures == set(re.findall(r"`([\w-]+\.(?:png|svg))`", table))
    for module in re.findall(r"`python -m ([\w.]+)", table):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()


@needs_browser
def test_a_search_from_disk_asks_no_network() -> None:
    pytest.importorskip("zensical")
    words = [sys.executable, "-m", "docs.site"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    with chromium() as driver:
        resize(driver, 1280, 900)
        driver.get((SITE / "docs" / "how-to" / "report.html").as_uri())
        driver.find_element("css selector", ".md-search__button").click()
        _until(driver, "return document.activeElement.shadowRoot ? 'a field' : ''", "field")
        driver.switch_to.active_element.send_keys("late-first")
        assert "Depth orders" in _until(driver, SHOWN, r"\d+ results")
        assert not [url for url in requests(driver) if url.startswith("http")]
        assert driver.get_log("browser") == []


SHOWN = """return [...document.querySelectorAll("*")]
    .map((one) => one.shadowRoot?.textContent ?? "").join(" ")"""
"""The text of the search, which a shadow tree holds."""


def _until(driver: Any, script: str, pattern: str) -> str:
    """The text that a script returns, once it holds a pattern."""
    for _ in range(120):
        text: str = driver.execute_script(script)
        if re.search(pattern, text):
            return text
        time.sleep(0.25)
    raise AssertionError(f"no {pattern} in {text!r}")
