"""LLaMA (Touvron et al., arXiv 2302.13971), and architectures of the same form."""

from __future__ import annotations

from sortednet_cli.families.transformers.architecture import decoder

LLAMA = decoder(
    "llama", "LlamaForCausalLM", "LlamaForSequenceClassification", accepts=("qwen2", "mistral")
)
