"""The documentation as a site that needs no network and no server.

    python -m docs.site    # writes build/site, whose index.html opens from disk

The pages link to each other as files of the repository do, on GitHub too. So the site keeps their
places: every page and picture is copied to where it lies, without the code around it. Then Zensical
builds the copy by `zensical.toml`, and fails at a link or an anchor that leads nowhere.

Zensical rather than Material for MkDocs, because that is no longer developed, nor is MkDocs below
it; the same authors went on with Zensical.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "build" / "pages"
SITE = ROOT / "build" / "site"

SHIM = "https://unpkg.com/iframe-worker/shim"
"""What Zensical's plugin `offline` puts into each page, so that search works from disk."""
OUR_SHIM = Path("docs", "theme", "search-from-disk.js")
"""Ours in its place: it lies on disk too."""


def main() -> None:
    if find_spec("zensical") is None:
        sys.exit("error: zensical is not installed: pip install '.[docs]'")
    stage()
    words = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(words, cwd=ROOT, check=False)
    if done.returncode != 0:
        sys.exit("error: the site is not whole; each warning above says where")
    for page in SITE.rglob("*.html"):
        _close(page)
    print(SITE / "index.html")


def stage() -> None:
    """Copy every page and picture, and nothing that an earlier build had besides."""
    for folder in (PAGES, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    for source in sources():
        target = PAGES / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def sources() -> list[Path]:
    """The pages at the top of the repository, all of `docs/` but its scripts, and the results."""
    kinds = ("*.md", "*.png", "*.svg", "*.css", "*.js")
    docs = [path for kind in kinds for path in (ROOT / "docs").rglob(kind)]
    return [*ROOT.glob("*.md"), *docs, *(ROOT / "benchmarks" / "results").glob("*.json")]


def _close(page: Path) -> None:
    """Let a page load nothing from a network, or end with what it would load."""
    up = "../" * (len(page.relative_to(SITE).parts) - 1)
    text = page.read_text(encoding="utf-8").replace(SHIM, up + OUR_SHIM.as_posix())
    if found := _LOADED.findall(text):
        sys.exit(f"error: {page} loads {', '.join(found)}")
    page.write_text(text, encoding="utf-8")


_LOADED = re.compile(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"((?:https?:)?//[^\"]+)")


if __name__ == "__main__":
    main()
