"""ViT (Dosovitskiy et al., arXiv 2010.11929) of transformers, which classifies images."""

from __future__ import annotations

from typing import Any

from sortednet_cli.families.transformers.architecture import SCALES, Head, encoder
from sortednet_cli.families.transformers.pooling import first_token
from sortednet_cli.families.transformers.roles import VIT_ROLES


def _classes(module: Any, states: Any) -> Any:
    return module.classifier(module.vit.layernorm(states))


VIT = encoder(
    "vit",
    base="vit",
    inputs="image",
    layers="vit.layers",
    parts=("vit.embeddings", "vit.layernorm"),
    heads={
        "classification": Head("ViTForImageClassification", ("classifier",), _classes, first_token)
    },
    roles=VIT_ROLES,
    scales={**SCALES, "width": (*SCALES["width"], "pooler_output_size")},
)
