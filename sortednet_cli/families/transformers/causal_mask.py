"""Causal attention without a mask, where the stock class would look at values to find out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

_STOCK, _MASKLESS = "sdpa", "sdpa_without_mask"


@contextmanager
def without_mask(base: nn.Module, inputs: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the attention of a causal model know by itself that no position sees a later one.

    The stock class looks at positions, which waits for the device, to learn whether a row holds
    several texts. Where a look is impossible, as in a pass that is recorded, it makes a mask and
    repeats keys for it: slower kernels, which round differently. Data name positions where a row
    holds several texts, and padding where that matters. Without either the kernel needs no mask,
    unless positions lie outside of a sliding window.

    Args:
        base: a stock model without its head.
        inputs: its token tensors, by the name of the argument.
    """
    config: Any = base.config
    if not _can_be_without(base, inputs, config):
        yield
        return
    _register()
    config._attn_implementation = _MASKLESS
    try:
        yield
    finally:
        config._attn_implementation = _STOCK


def _can_be_without(base: nn.Module, inputs: Mapping[str, Tensor], config: Any) -> bool:
    if set(inputs) != {"input_ids"} or config._attn_implementation != _STOCK:
        return False
    window = getattr(config, "sliding_window", None)
    if window is not None and inputs["input_ids"].shape[1] >= window:
        return False
    return any(getattr(module, "is_causal", False) for module in base.modules())


def _register() -> None:
    """Give transformers the stock attention under a name for which it makes no masks."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register(_MASKLESS, sdpa_attention_forward)
