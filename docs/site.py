"""The documentation as a site that needs no network and no server.

    python -m docs.site    # writes build/site, whose index.html opens from disk

The pages link to each other as files of the repository do, on GitHub too. So the site keeps their
places: every page and picture is copied to where it lies, without the code around it. Then Zensical
builds the copy by `zensical.toml`, and fails at a link or an anchor that leads nowhere.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "build" / "pages"
SITE = ROOT / "build" / "site"


def main() -> None:
    stage()
    words = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(words, cwd=ROOT, check=False)
    if done.returncode == 0:
        print(SITE / "index.html")
    sys.exit(done.returncode)


def stage() -> None:
    """Copy every page and picture, and nothing that an earlier build had besides."""
    for folder in (PAGES, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    for source in sources():
        target = PAGES / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def sources() -> list[Path]:
    """The pages at the top of the repository, and all of `docs/` but its scripts."""
    kinds = ("*.md", "*.png", "*.svg", "*.css")
    return [*ROOT.glob("*.md"), *(path for kind in kinds for path in (ROOT / "docs").rglob(kind))]


if __name__ == "__main__":
    main()
