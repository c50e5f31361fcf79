"""Labels of rows: what each is called, and which classes they make."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from sortednet_cli.data.text.alike import core, hint, shown
from sortednet_cli.data.text.table import Table, is_unicode, kind
from sortednet_cli.errors import RequestError, listed, shortened
from sortednet_cli.logs import logger

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"-?[0-9]+\.[0-9]+")
_MOST_CLASSES = 20
_LONGEST = 1000
"""Characters of a label; a column with more holds texts."""


def read_labels(table: Table, column: str, known: Sequence[str] | None) -> list[str]:
    """Return a column of labels by name; RequestError for a value that is no label.

    Integers are called what the file says that they stand for, or else as they are written;
    they stay numbers where the `known` classes are numbers.
    """
    names = table.class_names.get(column, ())
    if known is not None and not set(names) & set(known):
        names = ()
    return [
        _label(f"{table.place(row)}: {column}", value, names)
        for row, value in enumerate(table.column(column, "label"))
    ]


def is_unlabelled(table: Table, column: str) -> bool:
    """Whether all labels are -1, as in benchmarks that keep them to themselves."""
    values = table.columns.get(column, [])
    return bool(values) and all(value in (-1, "-1") for value in values)


def classes_of(table: Table, column: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Return the classes of the training part.

    Those that the file names, in its order; or the distinct labels, sorted, integers as
    integers. Raises RequestError for one class alone and for two that look alike.
    """
    names = table.class_names.get(column, ())
    distinct = set(labels)
    if len(distinct) < 2:
        raise RequestError(f"{table.where}: {column} has one class only: {listed(distinct)}")
    if distinct <= set(names):
        return names
    _check_alike(table, column, labels)
    if all(_INTEGER.fullmatch(label) for label in distinct):
        # As integers, without making any: one of 5,000 digits cannot be made.
        return tuple(sorted(distinct, key=lambda label: (len(label), label)))
    return tuple(sorted(distinct))


def check_known(
    table: Table, column: str, labels: Sequence[str], classes: Sequence[str], owner: str
) -> None:
    """Raise RequestError for a label that is no class of `owner`."""
    known = set(classes)
    for row, label in enumerate(labels):
        if label not in known:
            raise RequestError(
                f"{table.place(row)}: {column} = {label!r} is none of the classes of"
                f" {owner}: {shortened(tuple(classes), _MOST_CLASSES)}{hint(label, classes)}"
            )


def _label(place: str, value: object, names: Sequence[str]) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise RequestError(f"{place} is empty: give the row a label, or take it out")
    if isinstance(value, bool | str):
        label = str(value)
    elif isinstance(value, int):
        label = names[value] if 0 <= value < len(names) else str(value)
    else:
        wish = ": write integers, or the classes' names" if isinstance(value, float) else ""
        raise RequestError(f"{place} is neither text nor an integer, it is {kind(value)}{wish}")
    if len(label) > _LONGEST:
        raise RequestError(f"{place} has {len(label):,} characters: no class is called so")
    if not is_unicode(label):
        raise RequestError(f"{place} holds half a character (\\ud...)")
    if _INTEGER.fullmatch(label) and label.startswith("-"):
        raise RequestError(
            f"{place} = {label} is outside the range of classes, which"
            " begins at 0; is the file unlabelled?"
        )
    return label


def _check_alike(table: Table, column: str, labels: Sequence[str]) -> None:
    """Refuse classes that differ in nothing one sees, and tell those that differ in case."""
    if pair := _first_pair(labels, core):
        one, two = pair
        raise RequestError(
            f"{column} has two classes that look alike, {shown(labels[one])}"
            f" ({table.place(one)}) and {shown(labels[two])} ({table.place(two)}): write them"
            " alike if they are one, or give one another name"
        )
    if pair := _first_pair(labels, str.casefold):
        one, two = pair
        logger.warning(
            "%s: %s differs from %s in case alone: they are two classes",
            table.place(two),
            shown(labels[two]),
            shown(labels[one]),
        )
    if all(_DECIMAL.fullmatch(label) for label in set(labels)):
        logger.warning(
            "%s: %s holds decimal numbers; each, such as %s, is taken as the name of a class",
            table.where,
            column,
            labels[0],
        )


def _first_pair(labels: Sequence[str], key: Callable[[str], str]) -> tuple[int, int] | None:
    """The first rows of two different labels with one key."""
    first: dict[str, int] = {}
    by_key: dict[str, int] = {}
    for row, label in enumerate(labels):
        if label in first:
            continue
        first[label] = row
        if (other := by_key.setdefault(key(label), row)) != row:
            return other, row
    return None
