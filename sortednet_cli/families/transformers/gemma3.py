"""Gemma 3 for text (Google, arXiv 2503.19786): embeddings are scaled by the root of their size."""

from __future__ import annotations

from typing import Any

from sortednet_cli.families.transformers.architecture import decoder, next_tokens
from sortednet_cli.families.transformers.roles import DECODER_ROLES, NORMS_OF_A_HEAD


def _tokens(module: Any, states: Any) -> Any:
    logits, cap = next_tokens(module, states), module.config.final_logit_softcapping
    return logits if cap is None else (logits / cap).tanh() * cap


GEMMA3 = decoder(
    "gemma3_text",
    "Gemma3ForCausalLM",
    "Gemma3TextForSequenceClassification",
    tail=_tokens,
    roles=NORMS_OF_A_HEAD + DECODER_ROLES,
    buffers_follow_sizes=True,
)
