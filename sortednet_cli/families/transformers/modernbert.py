"""ModernBERT (Warner et al., arXiv 2412.13663): rotations, fused tensors, and local attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sortednet_cli.families.transformers.architecture import Head, encoder
from sortednet_cli.families.transformers.roles import MODERNBERT_ROLES


def _pooled(module: Any, inputs: Mapping[str, Any], states: Any) -> Any:
    """Select the first token's state, or the mean of all tokens' normalised ones."""
    if module.config.classifier_pooling == "cls":
        return module.model.final_norm(states[:, 0])
    normed, mask = module.model.final_norm(states), inputs.get("attention_mask")
    if mask is None:
        return normed.mean(1)
    return (normed * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def _classes(module: Any, states: Any) -> Any:
    return module.classifier(module.drop(module.head(states)))


def _words(module: Any, states: Any) -> Any:
    return module.decoder(module.head(module.model.final_norm(states)))


MODERNBERT = encoder(
    "modernbert",
    base="model",
    layers="model.layers",
    parts=("model.embeddings", "model.final_norm"),
    heads={
        "classification": Head(
            "ModernBertForSequenceClassification", ("head", "classifier"), _classes, _pooled
        ),
        "masked-lm": Head("ModernBertForMaskedLM", ("head", "decoder"), _words),
    },
    defaults={"cls_token_id": None, "sep_token_id": None},  # its own tokenizer's
    fused={"*.attn.Wqkv": ((1, 1, 1), 0), "*.mlp.Wi": ((1, 1), 0)},
    roles=MODERNBERT_ROLES,
)
