"""Granite (IBM, 2024): LLaMA with multipliers. Its classifier is not a class of transformers."""

from __future__ import annotations

from typing import Any

from sortednet_cli.families.transformers.architecture import decoder, embed_tokens, next_tokens


def _tokens(module: Any, states: Any) -> Any:
    return next_tokens(module, states) / module.config.logits_scaling


def _embed(module: Any, ids: Any, positions: Any) -> Any:
    return embed_tokens(module, ids, positions) * module.config.embedding_multiplier


GRANITE = decoder("granite", "GraniteForCausalLM", tail=_tokens, embed=_embed)
