"""GPT-2 (Radford et al., 2019): learned positions, and weights stored as [in, out]."""

from __future__ import annotations

from typing import Any

from sortednet_cli.families.transformers.architecture import TIED_HEADS, decoder
from sortednet_cli.families.transformers.roles import GPT2_ROLES


def _normed(module: Any, states: Any) -> Any:
    return module.transformer.ln_f(states)


def _embed(module: Any, ids: Any, positions: Any) -> Any:
    return module.transformer.wte(ids) + module.transformer.wpe(positions)


GPT2 = decoder(
    "gpt2",
    "GPT2LMHeadModel",
    "GPT2ForSequenceClassification",
    normed=_normed,
    embed=_embed,
    base="transformer",
    layers="transformer.h",
    parts=("transformer.wte", "transformer.wpe", "transformer.ln_f"),
    axes=("width", "depth", "ffn"),
    refused=TIED_HEADS,
    fused={"*.attn.c_attn": ((1, 1, 1), 1), "*.crossattention.c_attn": ((1, 1), 1)},
    roles=GPT2_ROLES,
    sizes=("n_embd", "n_layer", "n_head"),
    layer_count="n_layer",
    position_count="n_positions",
    scales={
        "width": ("n_embd", "n_head", "n_inner"),
        "heads": ("n_head",),
        "ffn": ("n_inner",),
        "hidden": ("n_embd",),
    },
    derived={"n_inner": lambda config: 4 * config["n_embd"]},
    has_head_size=False,
)
