"""Families: how each root network is built, shrunk and mapped. Knows no weights."""

from __future__ import annotations

from collections.abc import Collection

from sortednet_cli.families.base import Config, Family, Root, StagedFamily
from sortednet_cli.families.custom import CustomFamily
from sortednet_cli.families.preact_resnet import PreActResNetFamily
from sortednet_cli.families.torchvision_nets import MobileNetV2Family, ResNetFamily
from sortednet_cli.spec import ModelSpec
from sortednet_cli.spec.vocabulary import FAMILIES

__all__ = ["Config", "Family", "Root", "StagedFamily", "open_family", "root_of"]


def open_family(root: Root, allowed_factories: Collection[str] = ()) -> Family:
    """Bind a family's rules to a root network.

    Raises:
        RequestError: a custom factory that the user has not allowed by name.
    """
    if root.family == "custom":
        return CustomFamily(root, allowed_factories)
    if root.family == "preact_resnet":
        return PreActResNetFamily(root)
    if root.family == "mobilenet_v2":
        return MobileNetV2Family(root)
    return ResNetFamily(root)


def root_of(model: ModelSpec, *, channels: int, num_classes: int) -> Root:
    """Complete a spec's model with what the data decides: channels and classes."""
    config = dict(model.config)
    if model.family == "preact_resnet":
        config.setdefault("in_channels", channels)
    declaration = {}
    if model.family != "custom":
        config.setdefault("num_classes", num_classes)
    else:
        declaration = model.model_dump(mode="json", include={"factory", "axes", "blocks"})
    order = model.depth_order or FAMILIES[model.family].depth_orders[0]
    return Root(model.family, config, order, declaration)
