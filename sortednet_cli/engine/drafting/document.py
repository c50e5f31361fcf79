"""A spec as TOML with a comment on each line that needs one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from sortednet_cli.engine.drafting.recipe import Line, Lines

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_COLUMN = 36
"""Where comments begin, if a line is shorter."""


def written(title: str, top: Lines, tables: Mapping[str, Lines]) -> str:
    """Write a spec: comment lines, top-level keys, then the tables in order."""
    parts = ["".join(f"# {line}".rstrip() + "\n" for line in title.splitlines()), _body(top)]
    parts += [f"[{name}]\n{_body(lines)}" for name, lines in tables.items() if lines]
    return "\n".join(parts)


def _body(lines: Lines) -> str:
    return "".join(_line(line) for line in lines)


def _line(line: Line) -> str:
    text = f"{'' if line.applies else '# '}{_key(line.key)} = {_value(line.value)}"
    return f"{text.ljust(_COLUMN)}  # {line.why}\n" if line.why else f"{text}\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        entries = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items())
        return f"{{ {entries} }}" if entries else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _value(key)
