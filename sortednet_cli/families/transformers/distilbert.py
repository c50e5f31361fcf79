"""DistilBERT (Sanh et al., arXiv 1910.01108): BERT without segments, under names of its own."""

from __future__ import annotations

from typing import Any

from sortednet_cli.families.transformers.architecture import Head, encoder
from sortednet_cli.families.transformers.pooling import first_token
from sortednet_cli.families.transformers.roles import DISTILBERT_ROLES


def _classes(module: Any, states: Any) -> Any:
    return module.classifier(module.dropout(module.pre_classifier(states).relu()))


def _words(module: Any, states: Any) -> Any:
    transformed = module.activation(module.vocab_transform(states))
    return module.vocab_projector(module.vocab_layer_norm(transformed))


DISTILBERT = encoder(
    "distilbert",
    base="distilbert",
    layers="distilbert.transformer.layer",
    heads={
        "classification": Head(
            "DistilBertForSequenceClassification",
            ("pre_classifier", "classifier"),
            _classes,
            first_token,
        ),
        "masked-lm": Head(
            "DistilBertForMaskedLM",
            ("vocab_transform", "vocab_layer_norm", "vocab_projector"),
            _words,
        ),
    },
    roles=DISTILBERT_ROLES,
    sizes=("dim", "n_layers", "n_heads", "hidden_dim"),
    layer_count="n_layers",
    scales={
        "width": ("dim", "n_heads", "hidden_dim"),
        "heads": ("n_heads",),
        "ffn": ("hidden_dim",),
        "hidden": ("dim",),
    },
)
