"""The page of the architectures of transformers, made from their declarations."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import sortednet_cli.families.transformers as declared
from sortednet_cli.families.transformers import ARCHITECTURES, Architecture

FOLDER = Path(declared.__file__).parent

INTRO = """# Architectures of transformers

Each is a family: `model.family` takes its name, which is the `model_type` of its stock
configuration. It is declared in a file of its own under `sortednet_cli/families/transformers/`. The
last column counts the lines of that file that are no imports, docstrings or blank lines.

Decoders generate text in every mode of `sortednet generate`. A decoder that classifies reads a
text's last token that is no padding, an encoder its first.

| family | stock classes | axes | width scales | depth cuts | fused | lines |
| --- | --- | --- | --- | --- | --- | --- |"""


def page() -> Iterator[str]:
    """Yield the lines of the page."""
    yield INTRO
    for architecture in ARCHITECTURES:
        cells = [
            f"`{architecture.name}`",
            _coded(dict.fromkeys(head.class_name for head in architecture.heads.values())),
            ", ".join(architecture.axes),
            _coded(architecture.scales["width"]),
            _coded((architecture.layer_count, *architecture.layer_lists)),
            _coded(dict.fromkeys(p.rpartition(".")[2] for p in architecture.fused)),
            str(_num_lines(architecture)),
        ]
        yield f"| {' | '.join(cells)} |"


def _coded(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _num_lines(architecture: Architecture) -> int:
    """Count the lines of code that declare an architecture."""
    for name in sorted(FOLDER.glob("*.py")):
        text = name.read_text(encoding="utf-8")
        found = [f'    "{architecture.name}",', f'coder("{architecture.name}",']
        if any(call in text for call in found):
            return _code_lines(text)
    raise LookupError(architecture.name)


def _code_lines(text: str) -> int:
    lines: set[int] = set()
    for number, node in enumerate(ast.parse(text).body):
        if number == 0 or isinstance(node, ast.Import | ast.ImportFrom):
            continue
        lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return sum(bool(line.strip()) for i, line in enumerate(text.splitlines(), 1) if i in lines)
