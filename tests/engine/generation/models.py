"""Tiny causal models with random weights, of every kind that can be decoded."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from sortednet_cli.engine.generation import Stack

VOCAB = 61
DEPTH = 4

KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "grouped": {"num_key_value_heads": 2},
    "biased": {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "qwen2": {"model_type": "qwen2", "num_key_value_heads": 1},
    "qwen2_window": {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": 6,
        "max_window_layers": 2,
    },
    "mistral": {"model_type": "mistral", "sliding_window": 5, "num_key_value_heads": 2},
    "qwen3": {
        "model_type": "qwen3",
        "head_dim": 16,
        "num_key_value_heads": 2,
        "use_sliding_window": True,
        "sliding_window": 6,
        "max_window_layers": 2,
    },
    "smollm3": {
        "model_type": "smollm3",
        "no_rope_layers": [1, 0, 1, 1],
        "num_key_value_heads": 2,
        "use_sliding_window": True,
        "sliding_window": 6,
    },
    "olmo2": {"model_type": "olmo2", "num_key_value_heads": 2},
    "granite": {
        "model_type": "granite",
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "attention_multiplier": 0.3,
        "logits_scaling": 2.0,
    },
    "gemma3": {
        "model_type": "gemma3_text",
        "head_dim": 16,
        "sliding_window": 5,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "final_logit_softcapping": 3.0,
    },
    "phi3": {
        "model_type": "phi3",
        "num_key_value_heads": 2,
        "sliding_window": 5,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
        },
    },
    "gpt2": {"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True},
}

FUSED = tuple(KINDS)[:6]
"""Those whose layers have kernels of this package; others run their stock layers."""


def make(kind: str, seed: int = 0, context: int = 128) -> Any:
    """Build a model whose biases and norms are no zeros and ones."""
    chosen = {"model_type": "llama", **KINDS[kind]}
    config = AutoConfig.for_model(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=DEPTH,
        num_attention_heads=4,
        max_position_embeddings=context,
        **{f"{role}_token_id": None for role in ("pad", "bos", "eos")},
        **{"num_key_value_heads": 4, **chosen},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).eval()
        for parameter in model.parameters():
            noise = torch.randn_like(parameter.data)
            parameter.data += noise * (0.3 if parameter.dim() == 1 else 0.1)
    return model


def prompt(length: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCAB, (length,), generator=generator).tolist()


def logits_one_by_one(stack: Stack, tokens: list[int]) -> torch.Tensor:
    """Logits [n, V] of each position of a text, from a pass of its own."""
    found = []
    for token in tokens:
        stack.push([token])
        stack.advance(stack.depth)
        found.append(stack.logits(1)[0])
    return torch.stack(found)
