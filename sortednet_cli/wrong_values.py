"""Wrong values in the words of whoever wrote them, from pydantic's errors.

Knows kinds of values and pydantic's types of errors; knows nothing of specs, options and requests.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sortednet_cli.errors import suggestion

_KINDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
    "dict": "a table of keys",
    "model": "a table of keys",
}
_KIND = re.compile(r"(\w+?)_(?:type|parsing|parsing_size|from_float|attributes_type)")
_LONGEST_VALUE = 60
_SHOULD = re.compile(r"\w+ should (?:be )?")
_BRANCH = re.compile(r"bool|int|float|str|(?:literal|list|tuple|dict|constrained-str)\b.*")
"""What pydantic puts behind a key's path for each alternative that it tried."""


@dataclass(frozen=True)
class WrongValue:
    """One wrong value.

    Attributes:
        path: where it stands: keys and indices.
        kind: pydantic's type of the error, as `missing` or `extra_forbidden`.
        message: what it must be and is not, without its path.
    """

    path: tuple[str | int, ...]
    kind: str
    message: str


def wrong_values(errors: Sequence[Mapping[str, Any]]) -> Iterator[WrongValue]:
    """Yield what is wrong, in order; alternatives that one value fails are one wrong value.

    Args:
        errors: of `ValidationError.errors()`.
    """
    for path, group in itertools.groupby(errors, key=_path):
        several = list(group)
        first = several[0]
        alone = len(several) == 1 and path == tuple(first["loc"])
        yield WrongValue(path, first["type"], _message(first) if alone else _none_of(several))


def _path(error: Mapping[str, Any]) -> tuple[str | int, ...]:
    path = tuple(error["loc"])
    is_branch = len(path) > 1 and isinstance(path[-1], str) and _BRANCH.fullmatch(path[-1])
    return path[:-1] if is_branch else path


def _message(error: Mapping[str, Any]) -> str:
    if error["type"] == "missing":
        return "it is missing"
    if error["type"] in ("value_error", "extra_forbidden"):
        message: str = error["msg"].removeprefix("Value error, ")
        return message[:1].lower() + message[1:]
    return _none_of([error])


def _none_of(errors: Sequence[Mapping[str, Any]]) -> str:
    """Say what a value must be, if each of the errors is one alternative."""
    value = errors[0]["input"]
    choices = list(dict.fromkeys(choice for error in errors for choice in _choices(error)))
    words = [word for choice in choices for word in re.findall("^'(.*)'$", choice)]
    *most, last = choices
    expected = f"{', '.join(most)} or {last}" if most else last
    verb = "" if choices[0].startswith(("have ", "match ")) else "be "
    return f"must {verb}{expected}, not {_written(value)}{suggestion(value, words)}"


def _choices(error: Mapping[str, Any]) -> list[str]:
    if error["type"] == "literal_error":
        return re.findall("'[^']*'|[^', ]+(?=,|$)", error["ctx"]["expected"].replace(" or ", ", "))
    found = _KIND.fullmatch(error["type"])
    if found and found[1] in _KINDS:
        return _KINDS[found[1]].split(" or ")
    return [_SHOULD.sub("", error["msg"]).split(" after validation")[0]]


def _written(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
