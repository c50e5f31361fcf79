"""SmolLM3 (Hugging Face, 2025): LLaMA in which some layers have no rotary embedding."""

from __future__ import annotations

from sortednet_cli.families.transformers.architecture import decoder

SMOLLM3 = decoder(
    "smollm3",
    "SmolLM3ForCausalLM",
    "SmolLM3ForSequenceClassification",
    layer_lists=("layer_types", "no_rope_layers"),
)
