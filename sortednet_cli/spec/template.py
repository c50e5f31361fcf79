"""A text made of a row: the name of one column, or a template over several."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

_PIECE = re.compile(r"(\{\{|\}\}|\{[^{}]+\})|[{}]")
_PARAGRAPHS, _LINES = "\n\n", "\n"


@dataclass(frozen=True)
class _Line:
    """Fixed text and columns in turn: `parts[1::2]` are the names of columns."""

    parts: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return self.parts[1::2]

    def fill(self, row: Mapping[str, str]) -> str:
        return "".join(row[part] if i % 2 else part for i, part in enumerate(self.parts))


@dataclass(frozen=True)
class Template:
    """`{name}` stands for a column, `{{` and `}}` for braces; without any it names one column.

    Where all columns of a line are empty, the line is left out; where all columns of a
    paragraph are (lines between blank lines), the paragraph with its headings.
    """

    paragraphs: tuple[tuple[_Line, ...], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, each once, as they come."""
        lines = chain.from_iterable(self.paragraphs)
        return tuple(dict.fromkeys(chain.from_iterable(line.columns for line in lines)))

    @property
    def is_column(self) -> bool:
        """Whether the text is one column as it stands."""
        return self.paragraphs == ((_Line(("", *self.columns, "")),),)

    def fill(self, row: Mapping[str, str]) -> str:
        """Write the text of a row; `""` if all its columns are empty."""
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
    """Read a template, or the plain name of a column.

    Raises:
        ValueError: a brace that stands alone, no column, or `\\n` that no quotes made a line's end.
    """
    if not re.search(r"[{}]", text):
        return Template(((_Line(("", text, "")),),))
    if r"\n" in text:
        raise ValueError(
            r"\n is a backslash and an n here: write the template in double quotes, as"
            r' "{instruction}\n{input}"'
        )
    made = Template(
        tuple(
            tuple(_parse_line(line) for line in paragraph.split(_LINES))
            for paragraph in text.split(_PARAGRAPHS)
        )
    )
    if not made.columns:
        raise ValueError("a template names at least one column, as {text}")
    return made


def check_template(text: str) -> str:
    """Return the text of a template; ValueError if it is none."""
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
                f"a brace stands alone in {line!r}: write {{column}} for a column's value and"
                " {{ or }} for a brace"
            )
        if len(piece) == 2:
            parts[-1] += piece[0]
        else:
            parts += [piece[1:-1], ""]
    parts[-1] += line[end:]
    return _Line(tuple(parts))
