"""Stock modules as exporters take them: named tensors in, logits out, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sortednet_cli.families.shared import Inputs

Forward = Callable[[nn.Module, Inputs], Tensor]


class ImageLogits(nn.Module):
    """Maps images to logits.

    Args:
        module: the stock module.
        forward: calls the module and returns its logits.
    """

    def __init__(self, module: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.module = module
        self._forward = forward

    def forward(self, inputs: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, K]."""
        return self._forward(self.module, inputs)


class TextLogits(ImageLogits):
    """Maps tokens to logits, without a cache: nobody reads it here, and it limits the length.

    Attributes:
        max_length: most tokens of a text that the module takes; None if it has no such bound.
        use_cache: whether the module's configuration asked for a cache.
    """

    def __init__(self, module: nn.Module, forward: Forward, max_length: int | None) -> None:
        super().__init__(module, forward)
        self.max_length = max_length
        config: Any = module.config
        self.use_cache = bool(getattr(config, "use_cache", False))
        config.use_cache = False

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Map [B, T] to [B, K], or to [B, T, K] if tokens are predicted."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        return self._forward(self.module, inputs)


def all_inputs(inputs: dict[str, Tensor], segments: bool) -> dict[str, Tensor]:
    """Return the inputs of `TextLogits`, with those that data leave out where they say nothing.

    Args:
        segments: whether the model tells the two texts of a pair apart by `token_type_ids`.
    """
    ids = inputs["input_ids"]
    whole = {"input_ids": ids, "attention_mask": inputs.get("attention_mask")}
    if segments:
        whole["token_type_ids"] = inputs.get("token_type_ids")
    neutral = {"attention_mask": torch.ones_like, "token_type_ids": torch.zeros_like}
    return {name: neutral[name](ids) if t is None else t for name, t in whole.items()}
