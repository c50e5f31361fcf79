"""Templates, which make a text from the columns of a row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

_PIECE = re.compile(r"(\{\{|\}\}|\{[^{}]+\})|[{}]")
_PARAGRAPHS, _LINES = "\n\n", "\n"


@dataclass(frozen=True)
class _Line:
    """A line of a template: fixed texts and, in `parts[1::2]`, names of columns in turn."""

    parts: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return self.parts[1::2]

    def fill(self, row: Mapping[str, str]) -> str:
        return "".join(row[part] if i % 2 else part for i, part in enumerate(self.parts))


@dataclass(frozen=True)
class Template:
    """A template, in which `{name}` is a column's value, and `{{` and `}}` are braces.

    A text without braces is the name of a single column. A line whose columns are all empty is
    left out. So is a paragraph (the lines between blank lines) whose columns are all empty, with
    its headings.
    """

    paragraphs: tuple[tuple[_Line, ...], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, each once, in order."""
        lines = chain.from_iterable(self.paragraphs)
        return tuple(dict.fromkeys(chain.from_iterable(line.columns for line in lines)))

    @property
    def is_column(self) -> bool:
        """Whether the text is the value of one column, unchanged."""
        return self.paragraphs == ((_Line(("", *self.columns, "")),),)

    def fill(self, row: Mapping[str, str]) -> str:
        """Make the text of a row; `""` if all its columns are empty."""
        if not any(row[name].strip() for name in self.columns):
            return ""
        paragraphs = (
            _LINES.join(line.fill(row) for line in lines if _has_text(line.columns, row))
            for lines in self.paragraphs
            if _has_text(tuple(chain.from_iterable(line.columns for line in lines)), row)
        )
        return _PARAGRAPHS.join(paragraphs)


def _has_text(columns: tuple[str, ...], row: Mapping[str, str]) -> bool:
    return not columns or any(row[name].strip() for name in columns)


def parse_template(text: str) -> Template:
    """Parse a template, or the name of a single column.

    Raises:
        ValueError: a brace has no partner, there is no column, or a line break is written as a
            backslash and an n.
    """
    if not re.search(r"[{}]", text):
        return Template(((_Line(("", text, "")),),))
    if r"\n" in text:
        raise ValueError(
            r"\n is no line break in single quotes: write the template in double quotes, as"
            r' "{instruction}\n{input}"'
        )
    template = Template(
        tuple(
            tuple(_parse_line(line) for line in paragraph.split(_LINES))
            for paragraph in text.split(_PARAGRAPHS)
        )
    )
    if not template.columns:
        raise ValueError("a template must name at least one column, as in {text}")
    return template


def check_template(text: str) -> str:
    """Return the text unchanged; ValueError if it is no template."""
    parse_template(text)
    return text


def _parse_line(line: str) -> _Line:
    parts = [""]
    end = 0
    for match in _PIECE.finditer(line):
        parts[-1] += line[end : match.start()]
        end = match.end()
        piece = match[1]
        if piece is None:
            raise ValueError(
                f"a brace in {line!r} has no partner: write {{column}} for a column's value and"
                " {{ or }} for a brace"
            )
        if len(piece) == 2:
            parts[-1] += piece[0]
        else:
            parts += [piece[1:-1], ""]
    parts[-1] += line[end:]
    return _Line(tuple(parts))
