"""Families: how each root network is built, shrunk and mapped, without weights.

The properties of a family (`FamilyFacts`) need no torch. Its class is imported to build a network.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

from sortednet_cli.errors import RequestError
from sortednet_cli.extensions import ARCHITECTURES, check_class, load, load_own
from sortednet_cli.families.root import Config, Root
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import ModelSpec
from sortednet_cli.spec.families import FamilyFacts, family_facts, own_families

if TYPE_CHECKING:
    from sortednet_cli.families.base import Family, StagedFamily
    from sortednet_cli.families.shared import Inputs, SharedPass, Step

__all__ = [
    "Config",
    "Family",
    "FamilyFacts",
    "Inputs",
    "Root",
    "SharedPass",
    "StagedFamily",
    "Step",
    "open_family",
    "root_of",
]


def __getattr__(name: str) -> Any:
    """Import torch only when a class is used that builds networks."""
    if name in __all__:
        from sortednet_cli.families import base, shared

        return getattr(shared if hasattr(shared, name) else base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def open_family(root: Root, allowed_factories: Collection[str] = ()) -> Family:
    """Make the family of a root network.

    Args:
        allowed_factories: custom factories that the user allows to run, as `MODULE:NAME`.

    Raises:
        RequestError: the root's factory is not allowed, or the family does not take its
            configuration, or norms of each width's own.
    """
    family = _class_of(root.family).open(root, allowed_factories)
    if family.root.own_norms != root.own_norms:
        raise RequestError(
            f"model.norms: the family {root.family} does not know 'by-width': take 'shared'"
        )
    return family


def root_of(
    model: ModelSpec,
    task: str,
    facts: Mapping[str, Any],
    stock: Mapping[str, Any] | None = None,
    space: Mapping[str, Sequence[int | float]] | None = None,
) -> Root:
    """Make the root network of a spec's model.

    Args:
        facts: entries that follow from the data, as returned by `InputFormat.facts`.
        stock: the configuration of a pretrained model, which the spec's entries override.
        space: the spec's search space, if norms can be of each width's own.

    Raises:
        RequestError: the configuration does not fit the family or the data.
    """
    config = _class_of(model.family).complete_config(model, task, facts, stock)
    declared = {"factory", "axes", "blocks", "fused"} if model.factory else {"fused"}
    declaration = model.model_dump(mode="json", include=declared)
    if not any(declaration.values()):
        declaration = {}
    order = model.depth_order or family_facts(model.family).depth_orders[0]
    by_width = space if model.norms == "by-width" and space else {}
    own = {axis: values for axis, values in SearchSpace.of(by_width).axes if axis != "depth"}
    return Root(model.family, config, order, declaration, own)


def _class_of(name: str) -> type[Family]:
    """Import the class of a family.

    Raises:
        RequestError: another package's class cannot be imported, or is not a `Family`.
    """
    from sortednet_cli.families.base import Family

    point = EntryPoint(name, family_facts(name).implementation, ARCHITECTURES)
    found: type[Family] = load_own(point.value) if name in own_families() else load(point)
    check_class(point, found, Family)
    return found
