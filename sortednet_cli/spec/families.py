"""Families by name, and their properties. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from sortednet_cli.errors import RequestError, listed, suggestion
from sortednet_cli.extensions import (
    ARCHITECTURES,
    added,
    find_added,
    load,
    load_own,
    told,
    warn_of_taken,
)

CAUSAL_TASKS = ("causal-lm", "answers")
"""Tasks whose models continue a text."""

ALL_ORDERS = ("late-first", "balanced", "prefix")
STAGED_ORDERS = ("late-first", "balanced")

_OWN = "sortednet_cli.families.declared:FAMILIES"
"""The package's own families. They are above specs, so they are loaded by name like others."""


@dataclass(frozen=True, kw_only=True)
class FamilyFacts:
    """The properties of a family.

    Attributes:
        name: the value of `model.family`.
        implementation: `module:Class` of its `Family`, imported to build a network.
        axes: the axes along which it can shrink.
        depth_orders: the depth orders that it supports, the default first.
        inputs: kind of data that it takes: `image` or `text`.
        tasks: the tasks that it supports.
        refused: axes that its stock configuration cannot express, each with the reason.
        sizes: entries of `model.config` that set the network's size; pretrained weights come with
            their own.
        pretrained: where pretrained weights come from: a `folder` with a configuration, or
            `weights` alone.
        can_shard: whether its layers run one by one, so that they can be sharded, or skipped.
        norms_are_per_channel: whether its norms treat every channel separately, so that the
            features of a narrow sub-model do not depend on channels that it lacks.
    """

    name: str
    implementation: str
    axes: tuple[str, ...] = ("width", "depth")
    depth_orders: tuple[str, ...] = ALL_ORDERS
    inputs: str = "image"
    tasks: tuple[str, ...] = ("classification",)
    refused: Mapping[str, str] = field(default_factory=dict)
    sizes: tuple[str, ...] = ()
    pretrained: str = "weights"
    can_shard: bool = False
    norms_are_per_channel: bool = True


def family_names() -> list[str]:
    """List all families: this package's own, which cannot be replaced, then other packages'."""
    return list(dict.fromkeys([*own_families(), *added(ARCHITECTURES)]))


def is_family(name: object) -> bool:
    """Whether there is a family of that name; imports no other package."""
    return isinstance(name, str) and (name in own_families() or name in added(ARCHITECTURES))


@cache
def own_families() -> Mapping[str, FamilyFacts]:
    """Return the families of this package by name."""
    own: Mapping[str, FamilyFacts] = load_own(_OWN)
    return own


def family_facts(name: str) -> FamilyFacts:
    """Return the properties of a family.

    Raises:
        RequestError: there is no such family, or another package's entry point is wrong.
    """
    own = own_families().get(name)
    if own is not None:
        warn_of_taken(ARCHITECTURES, name)
        return own
    if (point := find_added(ARCHITECTURES, name)) is None:
        raise RequestError(unknown_family(name))
    facts = load(point)
    if not isinstance(facts, FamilyFacts):
        kind = f"{FamilyFacts.__module__}.FamilyFacts"
        raise RequestError(f"{told(point)} is no {kind}, such as `decoder(...)` makes")
    if facts.name != name:
        raise RequestError(f"{told(point)} calls itself {facts.name!r}: the names must agree")
    return facts


def unknown_family(name: object) -> str:
    """Say that there is no such family, and which there are."""
    legal = family_names()
    return f"unknown family {name!r}{suggestion(name, legal)}; the families are {listed(legal)}"
