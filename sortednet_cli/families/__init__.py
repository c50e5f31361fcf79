"""Families: how each root network is built, shrunk and mapped. Knows no weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sortednet_cli.families.base import (
    REFUSALS,
    Config,
    Family,
    Root,
    StagedFamily,
    check_blocks,
)
from sortednet_cli.families.custom import CustomFamily
from sortednet_cli.families.preact_resnet import PreActResNetFamily
from sortednet_cli.families.shared import Inputs, SharedPass
from sortednet_cli.families.torchvision.mobilenet_v2 import MobileNetV2Family
from sortednet_cli.families.torchvision.resnet import ResNetFamily
from sortednet_cli.families.transformers.family import TransformerFamily, complete_config, family_of
from sortednet_cli.families.transformers.pretrained import (
    load_checkpoint_tensors,
    matched_names,
    starting_names,
)
from sortednet_cli.families.transformers.reorder import reorder_by_importance
from sortednet_cli.spec import ModelSpec
from sortednet_cli.spec.vocabulary import FAMILIES

__all__ = [
    "REFUSALS",
    "Config",
    "Family",
    "Inputs",
    "Root",
    "SharedPass",
    "StagedFamily",
    "TransformerFamily",
    "complete_config",
    "family_of",
    "load_checkpoint_tensors",
    "matched_names",
    "open_family",
    "reorder_by_importance",
    "root_of",
    "starting_names",
]


def open_family(root: Root, allowed_factories: Collection[str] = ()) -> Family:
    """Bind a family's rules to a root network.

    Raises:
        RequestError: a custom factory that the user has not allowed by name, or a root of more
            blocks than are ever built.
    """
    if root.family == "custom":
        return CustomFamily(root, allowed_factories)
    if FAMILIES[root.family].inputs == "text":
        return TransformerFamily(root)
    staged = {"preact_resnet": PreActResNetFamily, "mobilenet_v2": MobileNetV2Family}
    family: StagedFamily = staged.get(root.family, ResNetFamily)(root)
    check_blocks(family.stages)
    return family


def root_of(
    model: ModelSpec, task: str, facts: Mapping[str, Any], stock: Mapping[str, Any] | None = None
) -> Root:
    """Complete a spec's model with what the data decide.

    Args:
        facts: of images, channels and num_classes; of texts, see `complete_config`.
        stock: the configuration of a pretrained model, which the spec's entries override.
    """
    config = dict(model.config)
    declaration = {}
    if FAMILIES[model.family].inputs == "text":
        config = complete_config(model.family, task, config, facts, stock)
    elif model.family == "custom":
        declaration = model.model_dump(mode="json", include={"factory", "axes", "blocks"})
    else:
        config.setdefault("num_classes", facts["num_classes"])
        if model.family == "preact_resnet":
            config.setdefault("in_channels", facts["channels"])
    order = model.depth_order or FAMILIES[model.family].depth_orders[0]
    return Root(model.family, config, order, declaration)
