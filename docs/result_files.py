"""The page of the result files, made from them and from the pages whose tables show them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"

INTRO = """# Result files

Every table of measurements on these pages comes from one of the files below. Each holds the
versions and the machine that made it, too. Cite a file with the commit that holds it. [Reproduce a
result](../how-to/reproduce.md) says how a table is made again;
[Data](data.md#the-data-sets-of-the-results) says where the data sets come from.

A command stands here as the file recorded it, with the presets of that day; some files recorded
none. To make a figure again, take the command or the settings from the page that shows the file:
they fit the presets of today.

| file | shown in | command |
| --- | --- | --- |"""


def page() -> Iterator[str]:
    """The lines of the page: a row for each file, by its name."""
    yield from INTRO.splitlines()
    shown = _pages_by_file()
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        where = ", ".join(shown.get(path.name, ["[Reliability](../explanation/reliability.md)"]))
        command = result.get("command")
        link = f"[{path.stem}](../../benchmarks/results/{path.name})"
        yield f"| {link} | {where} | {f'`{command}`' if command else ''} |"


def _pages_by_file() -> dict[str, list[str]]:
    """Links to the pages whose tables show a file, by its name."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "docs").rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        title = text.partition("\n")[0].lstrip("# ")
        link = f"[{title}](../{path.relative_to(ROOT / 'docs').as_posix()})"
        for marks in re.findall(r"<!-- table: \S+ (.*?) -->", text):
            for name in marks.split():
                if link not in found.setdefault(name, []):
                    found[name].append(link)
    return found
