"""LLaMA (Touvron et al., arXiv 2302.13971), and under its name what is of its form."""

from __future__ import annotations

from sortednet_cli.families.transformers.architecture import decoder

LLAMA = decoder("llama", "LlamaForCausalLM", accepts=("qwen2", "mistral"))
