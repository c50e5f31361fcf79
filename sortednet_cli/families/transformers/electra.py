"""ELECTRA (Clark et al., arXiv 2003.10555): BERT whose embedding may have a size of its own."""

from __future__ import annotations

from typing import Any

from sortednet_cli.families.transformers.architecture import SCALES, Head, encoder
from sortednet_cli.families.transformers.pooling import first_token
from sortednet_cli.families.transformers.roles import ELECTRA_ROLES


def _classes(module: Any, states: Any) -> Any:
    return module.classifier(states[:, None])


def _words(module: Any, states: Any) -> Any:
    return module.generator_lm_head(module.generator_predictions(states))


ELECTRA = encoder(
    "electra",
    base="electra",
    parts=("electra",),  # there is no projection if the sizes agree
    heads={
        "classification": Head(
            "ElectraForSequenceClassification", ("classifier",), _classes, first_token
        ),
        "masked-lm": Head(
            "ElectraForMaskedLM", ("generator_predictions", "generator_lm_head"), _words
        ),
    },
    roles=ELECTRA_ROLES,
    scales={
        **SCALES,
        "width": (*SCALES["width"], "embedding_size"),
        "embedding": ("embedding_size",),
    },
)
