"""Qwen2 (Yang et al., arXiv 2407.10671): LLaMA with biases, and sliding windows in some layers."""

from __future__ import annotations

from sortednet_cli.families.transformers.architecture import decoder

QWEN2 = decoder("qwen2", "Qwen2ForCausalLM", "Qwen2ForSequenceClassification")
