"""Products of a few rows with a large weight, which decoding spends its time on."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sortednet_cli.machine.precision import has_avx512

_PACKED = 1 << 18
"""Least number of elements of a weight that is packed: oneDNN's calls cost more than others."""

_ROWS = 4
"""Fewest rows of a product with a packed weight: four take no longer than one, two, or three."""

_BY_BLOCKS = 8
"""Fewest rows for which it pays to pack a weight for one product."""

_WIDENED = 4
"""Fewest rows for which a weight that is not packed is widened to the inputs' dtype."""

_MOST_FLOAT16 = torch.finfo(torch.float16).max

_PART = 1 << 19
"""Most elements of a weight that are widened at a time."""


class Product:
    """A linear layer for few rows, with its weight laid out for the fastest kernel.

    A product of few rows should take as long as its weight takes to be read. On a CPU, the usual
    kernels take longer, above all for two to eight rows. Two ways are faster
    (benchmarks/speed/row_costs.py): the weight on the left side of the product, and with AVX-512,
    large weights in oneDNN's blocks, where five rows cost as much as one. In float32 one row costs
    less on the left. For the many rows of a prompt, oneDNN packs a weight as it goes.

    A weight in float16 or bfloat16 takes half as long to be read. Its inputs may be float32: they
    are rounded for the product. Many rows with a weight that is not packed take less time if it is
    widened to float32, a part at a time. For one row a compiler writes a loop that widens a weight
    as it reads it, which is faster still and rounds no input.

    Args:
        weight: [O, C].
        bias: [O], or none.
        pack: whether a large weight is packed, which copies it, if that is faster.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, pack: bool) -> None:
        self._bias = bias
        self._packable = _can_pack(weight)
        self._packed = pack and self._packable
        self._weight = weight.contiguous()
        if self._packed:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, _ROWS)

    @property
    def is_half(self) -> bool:
        """Whether the weight is in float16 or bfloat16."""
        return self._weight.dtype in (torch.float16, torch.bfloat16)

    def packed(self) -> Product:
        """Return the product with its weight packed; itself if that is not faster."""
        if self._packed or not self._packable:
            return self
        return Product(self._weight, self._bias, pack=True)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Compute inputs [n, C] times weight [O, C], plus bias, in the inputs' dtype."""
        if torch.compiler.is_compiling() and len(inputs) == 1 and self.is_half:
            return self._summed(inputs)
        if inputs.dtype == self._weight.dtype:
            return self._product(inputs)
        if len(inputs) < _WIDENED or self._packed:
            return self._product(self._rounded(inputs)).to(inputs.dtype)
        return self._widened(inputs)

    def add_to(self, states: Tensor, inputs: Tensor) -> Tensor:
        """Compute a residual sum: states [n, O] plus the product of inputs [n, C]."""
        if self._packable or inputs.dtype != self._weight.dtype or _weight_on_left(inputs):
            return states + self(inputs)
        out = torch.addmm(states, inputs, self._weight.t())
        return out if self._bias is None else out + self._bias

    def _summed(self, inputs: Tensor) -> Tensor:
        """Compute the product of one row by sums that a compiler fuses."""
        out = (self._weight.to(inputs.dtype) * inputs).sum(-1)[None]
        return out if self._bias is None else out + self._bias

    def _rounded(self, inputs: Tensor) -> Tensor:
        """Round inputs to the weight's dtype; what float16 cannot hold becomes its largest."""
        if self._weight.dtype == torch.float16:
            inputs = inputs.clamp(-_MOST_FLOAT16, _MOST_FLOAT16)
        return inputs.to(self._weight.dtype)

    def _product(self, inputs: Tensor) -> Tensor:
        if self._packed or (self._packable and len(inputs) >= _BY_BLOCKS):
            return self._by_blocks(inputs)
        if not _weight_on_left(inputs):
            return F.linear(inputs, self._weight, self._bias)
        count = len(inputs)
        out = (self._weight @ _padded(inputs, 2).t())[:, :count].t()
        return out if self._bias is None else out + self._bias

    def _by_blocks(self, inputs: Tensor) -> Tensor:
        rows = _padded(inputs, _ROWS)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, self._weight, self._bias, "none", [], ""
        )
        return out[: len(inputs)]

    def _widened(self, inputs: Tensor) -> Tensor:
        """Compute the product in the inputs' dtype, with parts that a cache holds."""
        parts = torch.split(self._weight, max(1, _PART // self._weight.shape[1]))
        out = torch.cat([inputs @ part.to(inputs.dtype).t() for part in parts], -1)
        return out if self._bias is None else out + self._bias


def _padded(inputs: Tensor, rows: int) -> Tensor:
    """Add rows of zeros to inputs [n, C] up to a number of them."""
    missing = rows - len(inputs)
    return F.pad(inputs, (0, 0, 0, missing)) if missing > 0 else inputs


def _can_pack(weight: Tensor) -> bool:
    """Whether a weight is large and can be packed, and several rows then take less time.

    With AVX2 alone, two or three rows take longer with packed weights than with stock ones.
    """
    if weight.numel() < _PACKED:
        return False
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if weight.device.type != "cpu" or not has_onednn or not has_avx512():
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


def _weight_on_left(inputs: Tensor) -> bool:
    """Whether a product is faster with the weight on the left."""
    is_float = inputs.dtype == torch.float32 or len(inputs) >= 7
    return inputs.device.type == "cpu" and is_float and len(inputs) <= 32
