"""What has a name in specs and options: this package's own, and what other packages add. No torch.

A package adds something by an entry point of one of the groups below, such as in its
`pyproject.toml`

    [project.entry-points."sortednet.rules"]
    pairs = "my_package.rules:Pairs"

Nothing of it is imported before its name is used; of costs, before a command takes budgets.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sortednet_cli.errors import RequestError, SortednetError, listed, reason_of, suggestion
from sortednet_cli.logs import logger

ARCHITECTURES = "sortednet.families"
RULES = "sortednet.rules"
FORMATS = "sortednet.formats"
TRACKERS = "sortednet.trackers"
SOURCES = "sortednet.sources"
COSTS = "sortednet.costs"
PRESETS = "sortednet.presets"

imported: list[str] = []
"""The `module:object` of other packages that this process has imported."""


@cache
def added(group: str) -> Mapping[str, tuple[EntryPoint, ...]]:
    """The entry points of a group by name, in the order of their names; several if they clash."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in sorted(entry_points(group=group), key=lambda point: (point.name, point.value)):
        found.setdefault(point.name, {})[point.value] = point
    return {name: tuple(points.values()) for name, points in found.items()}


@cache
def warn_once(message: str) -> None:
    """Tell what does not stop a command; once in each."""
    logger.warning("%s", message)


@dataclass(frozen=True)
class Registry:
    """Things of one kind by name: this package's own, then those that other packages add.

    Attributes:
        group: the entry-point group that other packages add to.
        noun: what such a thing is called in messages.
        key: the key of a spec, or the option, that names one.
        own: `module:Class` of each of this package's own, as an entry point would say it.
    """

    group: str
    noun: str
    key: str
    own: Mapping[str, str]

    def names(self) -> list[str]:
        """List every name, this package's own first; nothing is imported."""
        return list(dict.fromkeys([*self.own, *added(self.group)]))

    def known(self, name: object) -> str:
        """Check a name in a spec; ValueError, as pydantic takes it, lists the legal ones."""
        if not isinstance(name, str) or (name not in self.own and name not in added(self.group)):
            raise ValueError(self.unknown(name))
        return name

    def unknown(self, name: object) -> str:
        """Say that there is no such name, and which there are."""
        legal = self.names()
        hint = suggestion(name, legal)
        return f"unknown {self.noun} {name!r}{hint}; the {self.noun}s are {listed(legal)}"

    def load(self, name: str, base: type) -> Any:
        """Import a class, which must be a whole subclass of `base`.

        Raises:
            RequestError: there is none of that name, two packages add it, it cannot be imported,
                or it is no such class.
        """
        point = self._point(name)
        found = load_own(point.value) if name in self.own else load(point)
        check_class(point, found, base)
        if getattr(found, "name", name) != name:
            raise RequestError(f"{told(point)} calls itself {found.name!r}: the names must agree")
        return found

    @contextmanager
    def making(self, name: str) -> Iterator[None]:
        """Tell any error of another package's, before work has begun, in one message."""
        try:
            yield
        except SortednetError:
            raise
        except Exception as error:
            if name in self.own:
                raise
            raise RequestError(f"{told(self._point(name))} failed: {reason_of(error)}") from error

    def _point(self, name: str) -> EntryPoint:
        if name in self.own:
            warn_of_taken(self.group, name)
            return EntryPoint(name, self.own[name], self.group)
        if (point := find_added(self.group, name)) is None:
            said = f"{self.key}: {self.unknown(name)}"
            raise RequestError(f"{said}; install the package that adds it")
        return point


def warn_of_taken(group: str, name: str) -> None:
    """Tell that another package adds one of this package's own names, which nobody can replace."""
    for point in added(group).get(name, ()):
        warn_once(f"{told(point)} is not used: sortednet-cli has its own of that name")


def find_added(group: str, name: str) -> EntryPoint | None:
    """The entry point of another package; RequestError if two packages add that name."""
    points = added(group).get(name, ())
    if len(points) > 1:
        values = " and ".join(point.value for point in points)
        raise RequestError(f"{group}: two packages add {name!r}: {values}; uninstall one")
    return points[0] if points else None


def load_own(value: str) -> Any:
    """Import what a `module:object` of this package names."""
    assert value.startswith("sortednet_cli.")
    return EntryPoint("own", value, "sortednet").load()


def load(point: EntryPoint) -> Any:
    """Import what an entry point of another package names; RequestError if that fails."""
    if point.value not in imported:
        imported.append(point.value)
    try:
        return point.load()
    except (Exception, SystemExit) as error:
        raise RequestError(f"{told(point)} cannot be loaded: {reason_of(error)}") from error


def check_class(point: EntryPoint, found: object, base: type) -> None:
    """RequestError unless a class is a subclass of `base` with all that one must have."""
    if not (isinstance(found, type) and issubclass(found, base)):
        raise RequestError(f"{told(point)} is no subclass of {base.__module__}.{base.__qualname__}")
    lacking = {*getattr(found, "__abstractmethods__", ()), *_unset(found)}
    if lacking:
        raise RequestError(f"{told(point)} lacks {listed(sorted(lacking))}")


def told(point: EntryPoint) -> str:
    """Name what an entry point adds, for messages."""
    return f"{point.group}: {point.name!r} ({point.value})"


def _unset(found: type) -> Iterator[str]:
    """Class attributes that a base class declares, and none sets."""
    for base in found.__mro__:
        for name, kind in inspect.get_annotations(base).items():
            if str(kind).startswith("ClassVar") and not hasattr(found, name):
                yield name
