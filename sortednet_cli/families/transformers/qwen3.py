"""Qwen3 (Yang et al., arXiv 2505.09388): Qwen2 without biases, with norms of queries and keys."""

from __future__ import annotations

from sortednet_cli.families.transformers.architecture import decoder
from sortednet_cli.families.transformers.roles import DECODER_ROLES, NORMS_OF_A_HEAD

QWEN3 = decoder(
    "qwen3",
    "Qwen3ForCausalLM",
    "Qwen3ForSequenceClassification",
    roles=NORMS_OF_A_HEAD + DECODER_ROLES,
)
