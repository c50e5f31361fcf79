"""RoBERTa (Liu et al., arXiv 1907.11692): BERT with other heads and shifted positions."""

from __future__ import annotations

from typing import Any

from sortednet_cli.families.transformers.architecture import Head, encoder
from sortednet_cli.families.transformers.pooling import first_token


def _classes(module: Any, states: Any) -> Any:
    return module.classifier(states[:, None])


def _words(module: Any, states: Any) -> Any:
    return module.lm_head(states)


ROBERTA = encoder(
    "roberta",
    base="roberta",
    heads={
        "classification": Head(
            "RobertaForSequenceClassification", ("classifier",), _classes, first_token
        ),
        "masked-lm": Head("RobertaForMaskedLM", ("lm_head",), _words),
    },
    positions_follow_padding=True,
)
