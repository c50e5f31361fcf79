"""Names of families and data sources with what is legal for each: data, no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FamilyFacts:
    """The axes of a family and the depth orders it can be cut in, its default first."""

    axes: tuple[str, ...]
    depth_orders: tuple[str, ...]


@dataclass(frozen=True)
class SourceFacts:
    """Image shape (channels, height = width) and classes, where the name alone decides them."""

    channels: int | None = None
    image_size: int | None = None
    num_classes: int | None = None


_ALL_ORDERS = ("late-first", "balanced", "prefix")
_STAGED_ORDERS = ("late-first", "balanced")

FAMILIES: dict[str, FamilyFacts] = {
    "preact_resnet": FamilyFacts(("width", "depth"), _ALL_ORDERS),
    "mobilenet_v2": FamilyFacts(("width", "depth"), _STAGED_ORDERS),
    "resnet50": FamilyFacts(("width", "depth"), _STAGED_ORDERS),
    "resnet101": FamilyFacts(("width", "depth"), _STAGED_ORDERS),
    "resnet152": FamilyFacts(("width", "depth"), _STAGED_ORDERS),
    "custom": FamilyFacts((), _ALL_ORDERS),
}

SOURCES: dict[str, SourceFacts] = {
    "digits": SourceFacts(1, 8, 10),
    "mnist": SourceFacts(1, 28, 10),
    "fashion-mnist": SourceFacts(1, 28, 10),
    "cifar10": SourceFacts(3, 32, 10),
    "cifar100": SourceFacts(3, 32, 100),
    "image-folder": SourceFacts(channels=3),
}
