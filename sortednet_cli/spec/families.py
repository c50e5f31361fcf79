"""Families by name, and what each is: told without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint

from sortednet_cli.errors import RequestError, listed
from sortednet_cli.extensions import ARCHITECTURES, added, load

CAUSAL_TASKS = ("causal-lm", "answers")
"""Tasks whose models continue a text."""

ALL_ORDERS = ("late-first", "balanced", "prefix")
STAGED_ORDERS = ("late-first", "balanced")

_OWN = EntryPoint("own", "sortednet_cli.families.declared:FAMILIES", ARCHITECTURES)
"""Families lie above specs: they are found by a name, as those of other packages are."""


@dataclass(frozen=True, kw_only=True)
class FamilyFacts:
    """What a family is.

    Attributes:
        name: the family's name in `model.family`.
        implementation: `module:Class` of its `Family`, imported when a network is to be built.
        axes: the axes that it can be cut along.
        depth_orders: the orders in which it can lose blocks, its default first.
        inputs: the kind of data that it takes: `image` or `text`.
        tasks: the tasks that it has an output for.
        refused: axes that its stock configuration cannot express, each with the reason.
        sizes: entries of `model.config` that decide the network's size and that pretrained
            weights bring along.
        takes_pretrained: whether training can start from pretrained weights.
        can_shard: whether its layers run one after another, so that processes can each hold a
            part of every layer.
        norms_are_per_channel: whether its norms treat each channel on its own, so that a narrow
            sub-model's features need not depend on channels that it lacks.
    """

    name: str
    implementation: str
    axes: tuple[str, ...] = ("width", "depth")
    depth_orders: tuple[str, ...] = ALL_ORDERS
    inputs: str = "image"
    tasks: tuple[str, ...] = ("classification",)
    refused: Mapping[str, str] = field(default_factory=dict)
    sizes: tuple[str, ...] = ()
    takes_pretrained: bool = False
    can_shard: bool = False
    norms_are_per_channel: bool = True


def family_names() -> list[str]:
    """List all families: the package's own, which nobody can replace, then those of others."""
    return list(dict.fromkeys([*own_families(), *added(ARCHITECTURES)]))


def is_family(name: object) -> bool:
    """Tell whether there is a family of that name, without importing anybody's."""
    return isinstance(name, str) and (name in own_families() or name in added(ARCHITECTURES))


@cache
def own_families() -> Mapping[str, FamilyFacts]:
    """Give the families of this package by name."""
    own: Mapping[str, FamilyFacts] = _OWN.load()
    return own


def family_facts(name: str) -> FamilyFacts:
    """Give the declaration of a family.

    Raises:
        RequestError: there is no such family, or another package declares none under its name.
    """
    own = own_families().get(name)
    if own is not None:
        return own
    if name not in added(ARCHITECTURES):
        raise RequestError(f"unknown family {name!r}; the families are {listed(family_names())}")
    facts = load(ARCHITECTURES, name)
    if not isinstance(facts, FamilyFacts) or facts.name != name:
        raise RequestError(
            f"{ARCHITECTURES}: {added(ARCHITECTURES)[name].value} declares no family named {name!r}"
        )
    return facts
