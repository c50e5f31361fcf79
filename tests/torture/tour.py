"""The README's tour in one shell, as written: its trainings in full, or shorter."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.commands import environment

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")

SHORTER = """
sortednet() {
    case "$*" in
        "train --preset pydoc-llama") set -- "$@" --set train.updates=3 \\
            --set data.validation=0.01 --set data.test=0.01 ;;
        "train "*) set -- "$@" --set train.updates=20 \\
            --set 'space.width=[0.40625,0.5,1]' --set 'space.depth=[1,4,8]' ;;
    esac
    command sortednet "$@"
}
"""
"""A shell function that gives trainings fewer updates, and less to score in the end."""


def blocks(language: str) -> list[str]:
    """The README's blocks of code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def run(folder: Path, before: str = "") -> None:
    """Run all shell blocks in one shell and in order, then the Python block."""
    script = "".join(["set -euo pipefail\n", before, *blocks("bash")])
    for words in (["bash", "-c", script], [sys.executable, "-c", "".join(blocks("python"))]):
        done = subprocess.run(
            words, cwd=folder, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done
