"""BERT (Devlin et al., arXiv 1810.04805)."""

from __future__ import annotations

from typing import Any

from sortednet_cli.families.transformers.architecture import Head, encoder
from sortednet_cli.families.transformers.pooling import first_token


def _classes(module: Any, states: Any) -> Any:
    return module.classifier(module.dropout(module.bert.pooler(states[:, None])))


def _words(module: Any, states: Any) -> Any:
    return module.cls(states)


BERT = encoder(
    "bert",
    base="bert",
    heads={
        "classification": Head(
            "BertForSequenceClassification", ("bert.pooler", "classifier"), _classes, first_token
        ),
        "masked-lm": Head("BertForMaskedLM", ("cls",), _words),
    },
)
