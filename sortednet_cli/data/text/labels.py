"""Read the labels of rows, and determine the classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from sortednet_cli.data.text.alike import hint, normalized, quoted
from sortednet_cli.data.text.table import Table, is_unicode, type_name
from sortednet_cli.errors import RequestError, listed, shortened
from sortednet_cli.logs import logger

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"-?[0-9]+\.[0-9]+")
_MOST_CLASSES = 20
_LONGEST = 1000
"""Most characters of a label; a column with longer values holds texts."""


def read_labels(table: Table, column: str, known: Sequence[str] | None) -> list[str]:
    """Return a column of labels as names; RequestError for a value that is not a label.

    Integers become the names that the file gives them, if it does; otherwise, or if the `known`
    classes are numbers, they stay as written.
    """
    names = table.class_names.get(column, ())
    if known is not None and not set(names) & set(known):
        names = ()
    return [
        _label(f"{table.location(row)}: {column}", value, names)
        for row, value in enumerate(table.column(column, "label"))
    ]


def is_unlabelled(table: Table, column: str) -> bool:
    """Whether all labels are -1, as in benchmarks that do not publish them."""
    values = table.columns.get(column, [])
    return bool(values) and all(value in (-1, "-1") for value in values)


def classes_of(table: Table, column: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Return the classes of the training part.

    They are the names that the file declares, in its order, or else the distinct labels, sorted
    (integers by value).

    Raises:
        RequestError: there is only one class, or two look alike.
    """
    names = table.class_names.get(column, ())
    distinct = set(labels)
    if len(distinct) < 2:
        raise RequestError(f"{table.where}: {column} has only one class: {listed(distinct)}")
    if distinct <= set(names):
        return names
    _check_alike(table, column, labels)
    if all(_INTEGER.fullmatch(label) for label in distinct):
        # Sort by value without int(), which refuses thousands of digits.
        return tuple(sorted(distinct, key=lambda label: (len(label), label)))
    return tuple(sorted(distinct))


def check_known(
    table: Table, column: str, labels: Sequence[str], classes: Sequence[str], owner: str
) -> None:
    """Raise RequestError for a label that is not among the classes of `owner`."""
    legal = set(classes)
    for row, label in enumerate(labels):
        if label not in legal:
            raise RequestError(
                f"{table.location(row)}: {column} = {label!r} is not one of the classes of"
                f" {owner}: {shortened(tuple(classes), _MOST_CLASSES)}{hint(label, classes)}"
            )


def _label(where: str, value: object, names: Sequence[str]) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise RequestError(f"{where} is empty: give the row a label, or remove it")
    if isinstance(value, bool | str):
        label = str(value)
    elif isinstance(value, int):
        label = names[value] if 0 <= value < len(names) else str(value)
    else:
        advice = ": write integers, or the classes' names" if isinstance(value, float) else ""
        raise RequestError(f"{where} must be text or an integer, not {type_name(value)}{advice}")
    if len(label) > _LONGEST:
        raise RequestError(
            f"{where} has {len(label):,} characters, but a class has at most {_LONGEST:,}"
        )
    if not is_unicode(label):
        raise RequestError(f"{where} holds half a character (\\ud...)")
    if _INTEGER.fullmatch(label) and label.startswith("-"):
        raise RequestError(
            f"{where} = {label} is outside the range of classes, which starts at 0; is the file"
            " unlabelled?"
        )
    return label


def _check_alike(table: Table, column: str, labels: Sequence[str]) -> None:
    """Refuse classes that look the same, and warn of classes that differ only in case."""
    if pair := _first_pair(labels, normalized):
        one, two = pair
        raise RequestError(
            f"{column} has two classes that look alike, {quoted(labels[one])}"
            f" ({table.location(one)}) and {quoted(labels[two])} ({table.location(two)}): write"
            " both the same way if they are one class, or rename one"
        )
    if pair := _first_pair(labels, str.casefold):
        one, two = pair
        logger.warning(
            "%s: %s differs from %s only in case: they are two classes",
            table.location(two),
            quoted(labels[two]),
            quoted(labels[one]),
        )
    if all(_DECIMAL.fullmatch(label) for label in set(labels)):
        logger.warning(
            "%s: %s holds decimal numbers; each, such as %s, is taken as a class name",
            table.where,
            column,
            labels[0],
        )


def _first_pair(labels: Sequence[str], key: Callable[[str], str]) -> tuple[int, int] | None:
    """Return the first rows of two different labels with the same key, or None."""
    first: dict[str, int] = {}
    by_key: dict[str, int] = {}
    for row, label in enumerate(labels):
        if label in first:
            continue
        first[label] = row
        if (other := by_key.setdefault(key(label), row)) != row:
            return other, row
    return None
