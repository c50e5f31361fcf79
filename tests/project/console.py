"""The shell sessions that pages show, played as a reader would type them.

    python -m tests.project.console    # how many blocks there are, and why some are not played

A session is a block of the language `console`. Lines after `$` are commands, those below are what
they print. A page is played in one shell, from top to bottom, with the files that it says to save.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.commands import environment

ROOT = Path(__file__).parents[2]
HOME = "/home/me"
"""The folder in which pages are read."""

UNPLAYED = {
    r"python -m benchmarks\.pages": "writes the pages: tests/project/test_results.py compares them",
    r"python -m benchmarks\.": "makes a committed result, in minutes or hours",
    r" *--set ": "options alone, for a command that another block has",
    r"sortednet train .*--data gsm8k\b": "needs GSM8K, and three quarters of an hour",
    r"make ": "installs everything, or runs all tests: this one is among them",
    r"docker ": "needs Docker and a network; tests/project/test_pipelines.py reads the Dockerfile",
    r"torchrun ": "needs several processes: tests/distributed starts them",
    r"\^C": "needs a Ctrl-C in time: tests/cli/test_signals.py sends it",
    r"sortednet train .*rule=chain": "needs a package: tests/project/test_extend.py installs it",
    r"sortednet .*(bench-pack|--runtime|--latencies|laptop)": "is measured in tests/engine/packing",
    r"sortednet train --config spec\.toml --out runs/photos": "trains as a cookbook page does",
    r"sortednet serve": "does not end: tests/cli/serve starts servers",
    r"curl ": "needs a running server: tests/cli/serve asks them",
    r"sortednet push artifacts/": "needs an artifact of that size, as the page on publishing makes",
    r"sortednet push .*--private": "needs the hub: tests/engine/export/test_push.py has one",
    r"cd pack": "runs on a phone: tests/engine/packing runs the script",
    r"sortednet info --plan .*--processes": "is played by tests/project/test_results.py",
}
"""Commands that are not played, by how they begin, and why."""

FREE = re.compile(r"generate .*--prompt|^python continue\.py")
"""Commands that print what a model says."""
_SURE = re.compile(r"using |wrote |error: |\d+ tokens in ")
"""Lines of those that a program says."""


@dataclass(frozen=True)
class Command:
    """A command of a page, and the lines that the page shows of what it prints."""

    text: str
    shown: tuple[str, ...]

    @property
    def why_not(self) -> str | None:
        """Why it is not played."""
        found = [why for start, why in UNPLAYED.items() if re.match(start, self.text)]
        return found[0] if found else None

    def compared(self) -> list[str]:
        """The shown lines that another training prints in the same form."""
        lines = [line for line in self.shown if line.strip() not in ("", "...")]
        return [line for line in lines if not FREE.search(self.text) or _SURE.match(line)]


@dataclass(frozen=True)
class Session:
    """A block of commands on a page."""

    page: str
    line: int
    commands: tuple[Command, ...]

    @property
    def why_not(self) -> str | None:
        """Why it is not played; one command is enough."""
        return next((one.why_not for one in self.commands if one.why_not), None)


@dataclass(frozen=True)
class Played:
    """A command that has run: its exit code and all that it printed."""

    command: Command
    code: int
    printed: str


def pages() -> list[str]:
    """Every page that a reader may type from, by its path in the repository."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page.relative_to(ROOT).as_posix() for page in found]


_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@cache
def sessions(page: str) -> tuple[Session, ...]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return tuple(
        Session(page, text.count("\n", 0, fence.start()) + 1, tuple(_commands(fence[2])))
        for fence in _FENCE.finditer(text)
        if fence[1] == "console"
    )


def _commands(block: str) -> Iterator[Command]:
    """Commands go on after a backslash. What has no prompt before it is one command."""
    parts = re.split(r"^\$ |^(?=\^C)", block, flags=re.MULTILINE)
    for part in parts[1:] if not parts[0].strip() else parts:
        text, printed = re.fullmatch(r"((?:.*\\\n)*.*)\n?((?:.*\n?)*)", part).groups()  # type: ignore[union-attr]
        if not text.endswith("[OPTIONS]"):  # the form of a command
            yield Command(text, tuple(printed.splitlines()))


def saved_files(page: str) -> dict[str, str]:
    """The files that a page says to save, by their names."""
    text, files = (ROOT / page).read_text(encoding="utf-8"), {}
    for fence in _FENCE.finditer(text):
        before = text[: fence.start()].rstrip().rpartition("\n\n")[2]
        if named := re.search(r"\b[Ss]ave\b[^`]*\bas\s+`([^`]+)`", before):
            files[named[1]] = fence[2]
    return files


def play(page: str, folder: Path, before: str = "", env: Mapping[str, str] = {}) -> list[Played]:
    """Play what a page shows in a folder, in one shell, after a script of one's own."""
    for name, text in saved_files(page).items():
        (folder / name).write_text(text, encoding="utf-8")
    commands = [c for session in sessions(page) if not session.why_not for c in session.commands]
    script = ["exec 2>&1", before]
    for command in commands:
        script += [r"printf '\036'", command.text, r"printf '\037%d' $?"]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        env=environment(HOME=str(folder), COLUMNS="200", **env),
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    parts = [part.split("\037") for part in done.stdout.split("\036")[1:]]
    assert len(parts) == len(commands), done
    return [
        Played(command, int(code), printed.replace(str(folder), HOME))
        for command, (printed, code) in zip(commands, parts, strict=True)
    ]


_SUBMODEL = r"\b[a-z]\d[\d.]*(?:-[a-z]\d[\d.]*)*\b"
_NUMBER = r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?(?:[kMG]\b)?%?"


def form(line: str) -> str:
    """A line without what another training changes: numbers, and names of sub-models."""
    line = re.sub(_NUMBER, "#", re.sub(_SUBMODEL, "#", line))
    return " ".join(re.sub(r"#(?:\s+#)+", "#", line).split())


def main() -> None:
    found = [session for page in pages() for session in sessions(page)]
    unplayed = Counter(session.why_not for session in found if session.why_not)
    print(f"{len(found)} blocks of commands, {len(found) - unplayed.total()} of them played")
    for why, count in unplayed.most_common():
        print(f"{count:>4} not: {why}")


if __name__ == "__main__":
    main()
