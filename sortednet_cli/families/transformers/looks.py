"""Passes of stock modules that would look at values of their inputs, kept from it.

A look waits for the device. It is impossible on the meta device, and in a pass that is recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

_WARNING = "warn_if_padding_and_no_attention_mask"


@contextmanager
def without_looks(base: nn.Module) -> Iterator[None]:
    """Keep a stock model without its head from looking at tokens and positions."""
    with ExitStack() as stack:
        stack.enter_context(_fixed_frequencies(base))
        stack.enter_context(_no_warning(base))
        yield


@contextmanager
def _no_warning(base: nn.Module) -> Iterator[None]:
    """Drop the warning of padding without a mask: data give one where padding matters."""
    own = vars(base)
    if not hasattr(base, _WARNING) or _WARNING in own:
        yield
        return
    own[_WARNING] = lambda *_: None
    try:
        yield
    finally:
        del own[_WARNING]


@contextmanager
def _fixed_frequencies(base: nn.Module) -> Iterator[None]:
    """Use default rotary frequencies on the meta device.

    Other kinds compare the sequence length with a value, which the meta device does not have.
    """
    rotary: Any = getattr(base, "rotary_emb", None)
    if rotary is None or not all(buffer.is_meta for buffer in rotary.buffers()):
        yield
        return
    kinds = rotary.rope_type  # of each type of layer, if they differ
    by_type = isinstance(kinds, dict)
    rotary.rope_type = dict.fromkeys(kinds, "default") if by_type else "default"
    try:
        yield
    finally:
        rotary.rope_type = kinds
