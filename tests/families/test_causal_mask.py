"""Causal attention without a mask: the stock classes' own results, and no look at positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, masking_utils

from sortednet_cli.families.transformers.causal_mask import without_mask

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 8},
    "mistral": {"sliding_window": 8},
}


def base_of(kind: str) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SIZES, **KINDS[kind])
    return AutoModelForCausalLM.from_config(config).eval().model


def ids(length: int) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.arange(2 * length).view(2, length) % 40}


@pytest.mark.parametrize("length", [7, 8, 13])
@pytest.mark.parametrize("kind", KINDS)
def test_states_are_those_of_the_stock_class(kind: str, length: int) -> None:
    """Bit for bit, also where a window leaves positions out."""
    base = base_of(kind)
    wanted = base(**ids(length), use_cache=False)[0]
    with without_mask(base, ids(length)):
        found = base(**ids(length), use_cache=False)[0]
    assert torch.equal(found, wanted)
    short = base(input_ids=ids(length)["input_ids"][:, -6:], use_cache=False)[0]
    assert not torch.equal(found[:, -6:], short)  # a position sees those before it


@pytest.mark.parametrize("kind", KINDS)
def test_positions_are_looked_at_only_where_a_mask_is_made(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    stock = masking_utils.find_packed_sequence_indices
    monkeypatch.setattr(
        masking_utils, "find_packed_sequence_indices", lambda p: looks.append(1) or stock(p)
    )
    base = base_of(kind)
    for length in (7, 13):
        with without_mask(base, ids(length)):
            base(**ids(length), use_cache=False)
    assert bool(looks) == ("sliding_window" in KINDS[kind])
    looks.clear()
    with without_mask(base, ids(7)):
        base(**ids(7), use_cache=False)
    assert not looks


def test_padding_and_other_attention_stay_the_stock_classes_own() -> None:
    base = base_of("llama")
    padded = {**ids(7), "attention_mask": torch.tensor([[0, 1, 1, 1, 1, 1, 1], [1] * 7])}
    with without_mask(base, padded):
        assert base.config._attn_implementation == "sdpa"
    base.config._attn_implementation = "eager"
    with without_mask(base, ids(7)):
        assert base.config._attn_implementation == "eager"


def test_the_stock_attention_is_back_after_an_error() -> None:
    base = base_of("llama")
    with pytest.raises(IndexError), without_mask(base, ids(7)):
        base(input_ids=torch.full((1, 3), 99))
    assert base.config._attn_implementation == "sdpa"
