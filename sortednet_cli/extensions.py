"""What other packages add through entry points: architectures, rules, formats and more. No torch.

A package adds something by an entry point of one of these groups, such as in its `pyproject.toml`

    [project.entry-points."sortednet.rules"]
    pairs = "my_package.rules:Pairs"

Nothing of it is imported before its name is used.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sortednet_cli.errors import RequestError, reason_of

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
    point = added(group)[name]
    try:
        return point.load()
    except Exception as error:
        raise RequestError(
            f"{group}: {name!r} cannot be loaded from {point.value}: {reason_of(error)}"
        ) from error
