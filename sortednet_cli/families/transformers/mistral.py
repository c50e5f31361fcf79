"""Mistral (Jiang et al., arXiv 2310.06825): LLaMA with a sliding window."""

from __future__ import annotations

from sortednet_cli.families.transformers.architecture import decoder

MISTRAL = decoder("mistral", "MistralForCausalLM", "MistralForSequenceClassification")
