"""What other packages add through entry points: architectures, rules, formats and more. No torch.

A package adds something by an entry point of one of these groups, such as in its `pyproject.toml`

    [project.entry-points."sortednet.rules"]
    pairs = "my_package.rules:Pairs"

Nothing of it is imported before its name is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Protocol, TypeVar

from sortednet_cli.errors import RequestError, listed, reason_of

ARCHITECTURES = "sortednet.families"
RULES = "sortednet.rules"
FORMATS = "sortednet.formats"
TRACKERS = "sortednet.trackers"
SOURCES = "sortednet.sources"
COSTS = "sortednet.costs"
PRESETS = "sortednet.presets"


@cache
def added(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name, in the order of their names.

    Raises:
        RequestError: two packages add the same name.
    """
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise RequestError(
                f"{group}: two packages add {point.name!r}: {other.value} and {point.value};"
                " uninstall one"
            )
    return found


def load(group: str, name: str) -> Any:
    """Import what an entry point names; RequestError if that fails."""
    return loaded(added(group)[name])


@dataclass(frozen=True)
class ClassRegistry:
    """Classes by name: this package's own, then those that other packages add.

    Attributes:
        group: the entry-point group that other packages add to.
        noun: what such a class is called in messages.
        own: `module:Class` of each of this package's own, as an entry point would say it.
    """

    group: str
    noun: str
    own: Mapping[str, str]

    def names(self) -> list[str]:
        """List every legal name. Nobody can replace one of this package's own."""
        return list(dict.fromkeys([*self.own, *added(self.group)]))

    def known(self, name: object) -> str:
        """Check a name in a spec; ValueError, as pydantic takes it, lists the legal ones."""
        if not isinstance(name, str) or (name not in self.own and name not in added(self.group)):
            legal = listed(self.names())
            raise ValueError(f"unknown {self.noun} {name!r}; the {self.noun}s are {legal}")
        return name

    def load(self, name: str, base: type) -> Any:
        """Import a class, which must be a subclass of `base`; RequestError if that fails."""
        if name in self.own:
            point = EntryPoint(name, self.own[name], self.group)
        else:
            point = added(self.group)[name]
        found = loaded(point)
        if not (isinstance(found, type) and issubclass(found, base)):
            raise RequestError(
                f"{self.group}: {name!r} is {point.value}, which is no subclass of"
                f" {base.__module__}.{base.__qualname__}"
            )
        if lacking := sorted(getattr(found, "__abstractmethods__", ())):
            raise RequestError(
                f"{self.group}: {name!r} is {point.value}, which lacks {listed(lacking)}"
            )
        return found


def loaded(point: EntryPoint) -> Any:
    """Import what a `module:object` of another package names; RequestError if that fails."""
    try:
        return point.load()
    except Exception as error:
        raise RequestError(
            f"{point.group}: {point.name!r} cannot be loaded from {point.value}: {reason_of(error)}"
        ) from error


class Named(Protocol):
    """What a registry holds."""

    @property
    def name(self) -> str: ...


Kind = TypeVar("Kind", bound=Named)


@dataclass(frozen=True)
class Registry(Generic[Kind]):
    """Objects of one kind by their names: the package's own, then those of other packages.

    Attributes:
        group: the entry points that add to it. Each names what makes an object without arguments,
            such as its class.
        kind: the class that all objects are of.
        own: what makes the package's own.
    """

    group: str
    kind: type[Kind]
    own: Mapping[str, Callable[[], Kind]]

    @property
    def names(self) -> list[str]:
        """All names, the package's own first; nothing is imported."""
        return [*self.own, *self._added]

    def find(self, name: str) -> Kind | None:
        """Make the object of a name; None if there is none.

        Raises:
            RequestError: what an entry point names is no such object, or another one has its name.
        """
        added = self._added
        if name in self.own:
            return self.own[name]()
        return self._made(added[name]) if name in added else None

    def every(self) -> list[Kind]:
        """Make all objects; errors as `find`."""
        return [found for name in self.names if (found := self.find(name)) is not None]

    @property
    def _added(self) -> dict[str, EntryPoint]:
        found = added(self.group)
        for name in found.keys() & self.own.keys():
            raise RequestError(
                f"{self.group}: {found[name].value} has the name of one of sortednet-cli's own:"
                f" {name!r}"
            )
        return found

    def _made(self, point: EntryPoint) -> Kind:
        make = load(self.group, point.name)
        try:
            found = make()
        except Exception as error:
            raise RequestError(
                f"{self.group}: {point.name!r} cannot be made of {point.value}: {reason_of(error)}"
            ) from error
        if not isinstance(found, self.kind) or found.name != point.name:
            raise RequestError(
                f"{self.group}: {point.value} is no {self.kind.__name__} named {point.name!r}"
            )
        return found
