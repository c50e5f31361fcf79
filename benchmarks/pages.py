"""Tables in README and docs, each made from a committed result by the script that made it.

    python -m benchmarks.pages            # write every table again
    python -m benchmarks.pages --check    # exit code 1 and the names, if one differs

A page marks a table's place by two comments:

    <!-- table: accuracy/rules.py rules.json -->
    <!-- end -->

The first names a script under this folder and a file of `results/`, or several. Its
`table(result, ...)` makes the Markdown in between. Other functions are named after a colon:
`accuracy/rules.py:curves`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
PLACE = re.compile(
    r"(<!-- table: (\S+\.py)(?::(\w+))? (\S+\.json(?: \S+\.json)*) -->\n).*?(<!-- end -->)", re.S
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args()
    differ = []
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        try:
            new = filled(old)
        except ValueError as error:
            sys.exit(f"error: {page.relative_to(ROOT)}: {error}")
        if new != old:
            differ.append(page)
            if not options.check:
                page.write_text(new, encoding="utf-8")
    for page in differ:
        print(f"{page.relative_to(ROOT)}: {'differs' if options.check else 'written'}")
    sys.exit(bool(options.check and differ))


def filled(page: str) -> str:
    """A page's text with every table as its script makes it.

    Raises:
        ValueError: a mark is not whole, and its table would be left as it is.
    """
    new, whole = PLACE.subn(
        lambda m: f"{m[1]}{_table(m[2], m[3] or 'table', m[4].split())}\n{m[5]}", page
    )
    if (marks := page.count("<!-- table:")) != whole:
        raise ValueError(f"{marks} tables begin, {whole} are whole")
    return new


def _table(script: str, function: str, names: list[str]) -> str:
    texts = [(HERE / "results" / name).read_text(encoding="utf-8") for name in names]
    name = "benchmarks." + script.removesuffix(".py").replace("/", ".")
    made: str = getattr(import_module(name), function)(*map(json.loads, texts))
    return made


if __name__ == "__main__":
    main()
