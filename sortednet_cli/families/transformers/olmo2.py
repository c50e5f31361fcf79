"""OLMo 2 (Team OLMo, arXiv 2501.00656): norms after each block, and of queries and keys."""

from __future__ import annotations

from sortednet_cli.families.transformers.architecture import decoder
from sortednet_cli.families.transformers.roles import DECODER_ROLES, NORMS_OF_ALL_HEADS

OLMO2 = decoder(
    "olmo2",
    "Olmo2ForCausalLM",
    "Olmo2ForSequenceClassification",
    roles=NORMS_OF_ALL_HEADS + DECODER_ROLES,
)
