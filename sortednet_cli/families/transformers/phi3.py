"""Phi-3 (Abdin et al., arXiv 2404.14219): LLaMA with fused tensors."""

from __future__ import annotations

from sortednet_cli.families.transformers.architecture import decoder
from sortednet_cli.families.transformers.roles import DECODER_ROLES

PHI3 = decoder(
    "phi3",
    "Phi3ForCausalLM",
    "Phi3ForSequenceClassification",
    fused={
        "*.qkv_proj": (("num_attention_heads", "num_key_value_heads", "num_key_value_heads"), 0),
        "*.gate_up_proj": ((1, 1), 0),
    },
    roles=(
        (r"self_attn\.qkv_proj\.weight$", ("heads", "hidden")),
        (r"mlp\.gate_up_proj\.weight$", ("ffn", "hidden")),
        *DECODER_ROLES,
    ),
)
