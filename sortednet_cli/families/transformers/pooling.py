"""The state that stands for a whole sample. Imports no torch until it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Pool = Callable[[Any, Mapping[str, Any], Any], Any]
"""Selects states [B, C] from a module, its inputs, and its states [B, T, C]."""


def first_token(module: Any, inputs: Mapping[str, Any], states: Any) -> Any:
    """Select the state of the first token, as encoders do."""
    return states[:, 0]


def last_token(module: Any, inputs: Mapping[str, Any], states: Any) -> Any:
    """Select the state of the last token that is no padding, as decoders do.

    Raises:
        ValueError: there are several samples, and the configuration names no padding token.
    """
    import torch

    ids, pad = inputs["input_ids"], module.config.pad_token_id
    if pad is None:
        if len(ids) > 1:
            raise ValueError("a batch needs a pad_token_id, to find the last token of each text")
        return states[:, -1]
    positions = torch.arange(ids.shape[-1], device=ids.device)
    last = (positions * (ids != pad)).argmax(-1)
    return states[torch.arange(len(ids), device=ids.device), last]
