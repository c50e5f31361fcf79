"""Products of a few rows with a large weight, which decoding spends its time on."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from itertools import chain, cycle

import torch
from torch import Tensor
from torch.nn import functional as F

from sortednet_cli.engine.generation.product_ways import (
    MOST_ROWS,
    STOCK,
    UNBLOCKED,
    WAYS,
    Way,
    Ways,
)
from sortednet_cli.machine.clock import work_clock
from sortednet_cli.machine.precision import has_avx512

_LARGE = 1 << 18
"""Least number of elements of a weight for oneDNN, whose calls cost more than others."""

_ROWS = 4
"""Fewest rows of a product with a packed weight: some kernels take longer for fewer."""

_WIDENED = 4
"""Fewest rows for which a weight that is not packed is widened to the inputs' dtype."""

_MOST_FLOAT16 = torch.finfo(torch.float16).max

_WIDE_PART = 1 << 19
"""Most elements of a weight that are widened at a time."""

_LEAST_OUTPUTS, _MOST_OUTPUTS = 16, 48
"""Outputs of a product that is computed in parts: the fewest and the most of a part."""

_MOST_TIMED = 1 << 25
"""Most elements of weights that are timed: more than most caches hold."""


class Product:
    """A linear layer for few rows, with its weight laid out for the fastest kernel.

    A product of few rows should take as long as its weight takes to be read. On a CPU, the usual
    kernel may take twice as long or more. What is fastest depends on the processor and on the
    number of rows (benchmarks/speed/row_costs.py): the usual kernel, for all outputs or for parts
    of them; the weight on the left side of the product; or a large weight in oneDNN's blocks, in
    which five rows can cost as much as one. `choose_ways` finds it out.

    A weight in float16 or bfloat16 takes half as long to be read. Its inputs may be float32: they
    are rounded for the product. Many rows with a weight that is not packed take less time if it is
    widened to float32, a part at a time. For one row a compiler writes a loop that widens a weight
    as it reads it, which is faster still and rounds no input.

    Args:
        weight: [O, C].
        bias: [O], or none.
        pack: whether a large weight of half the size is kept in blocks alone.

    Attributes:
        shape: of the weight, [O, C].
        dtype: of the weight.
        device: of the weight.
        is_half: whether the weight is in float16 or bfloat16.
        is_packed: whether the weight is kept in blocks alone.
        fits_blocks: whether a weight is so large that blocks may pay.
        ways: the way to take for each number of rows, unless the weight is half and in blocks.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, pack: bool = False) -> None:
        self.shape = tuple(weight.shape)
        self.dtype = weight.dtype
        self.device = weight.device
        self.is_half = weight.dtype in (torch.float16, torch.bfloat16)
        self.fits_blocks = _fits_blocks(weight)
        self.is_packed = pack and self.is_half and self.fits_blocks
        self.ways = STOCK
        self._part = _part_of(len(weight))
        self._bias = bias
        self._weight = weight.contiguous()
        self._blocks: Tensor | None = None
        if self.is_packed:
            self._weight = self._blocks = _in_blocks(self._weight)

    @property
    def packs_from(self) -> float:
        """The fewest rows that are faster with a packed copy of the weight; infinity if none."""
        if self.is_packed or not self.fits_blocks:
            return math.inf
        return 3 if self.is_half else self.ways.packs_from

    def with_copy(self) -> Product:
        """Return the product with a packed copy of its weight beside it, if the weight is large."""
        product = copy.copy(self)
        if self.fits_blocks and not self.is_packed:
            product._blocks = _in_blocks(self._weight)
        return product

    def timed_copy(self) -> Product:
        """Return a product with all that any way needs; of a very large weight only a part."""
        rows = max(1, _MOST_TIMED // self.shape[1])
        return Product(self._weight[:rows], None).with_copy()

    def __call__(self, inputs: Tensor) -> Tensor:
        """Compute inputs [n, C] times weight [O, C], plus bias, in the inputs' dtype."""
        if torch.compiler.is_compiling() and len(inputs) == 1 and self.is_half:
            return self._summed(inputs)
        if inputs.dtype == self.dtype:
            return self._product(inputs)
        if len(inputs) < _WIDENED or self._blocks is not None:
            return self._product(self._rounded(inputs)).to(inputs.dtype)
        return self._widened(inputs)

    def add_to(self, states: Tensor, inputs: Tensor) -> Tensor:
        """Compute a residual sum: states [n, O] plus the product of inputs [n, C]."""
        if inputs.device.type == "cpu":
            return states + self(inputs)
        out = torch.addmm(states, inputs, self._weight.t())
        return out if self._bias is None else out + self._bias

    def take(self, way: Way, inputs: Tensor) -> Tensor:
        """Compute the product in one way; as a stock layer if the weight is too small for it."""
        if way == "left":
            out = (self._weight @ _padded(inputs, 2).t())[:, : len(inputs)].t()
            return out if self._bias is None else out + self._bias
        if way == "parts" and self._part:
            return self._by_parts(inputs)
        if way in ("right", "parts") or not self.fits_blocks:
            return F.linear(inputs, self._weight, self._bias)
        return self._by_blocks(inputs, self._weight if way == "blocks" else self._blocks)

    def _product(self, inputs: Tensor) -> Tensor:
        if self.is_half and self._blocks is not None:
            return self._by_blocks(inputs, self._blocks)
        ways = self.ways.alone if self._blocks is None else self.ways.beside
        return self.take(ways[min(len(inputs), len(ways) - 1)], inputs)

    def _by_parts(self, inputs: Tensor) -> Tensor:
        count, parts = len(inputs), self._weight.view(-1, self._part, self.shape[1])
        out = torch.bmm(inputs.expand(len(parts), -1, -1), parts.transpose(1, 2))
        out = out.transpose(0, 1).reshape(count, -1)
        return out if self._bias is None else out + self._bias

    def _by_blocks(self, inputs: Tensor, weight: Tensor | None) -> Tensor:
        rows = _padded(inputs, _ROWS)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, self._bias, "none", [], "")
        return out[: len(inputs)]

    def _summed(self, inputs: Tensor) -> Tensor:
        """Compute the product of one row by sums that a compiler fuses."""
        out = (self._weight.to(inputs.dtype) * inputs).sum(-1)[None]
        return out if self._bias is None else out + self._bias

    def _rounded(self, inputs: Tensor) -> Tensor:
        """Round inputs to the weight's dtype; what float16 cannot hold becomes its largest."""
        if self.dtype == torch.float16:
            inputs = inputs.clamp(-_MOST_FLOAT16, _MOST_FLOAT16)
        return inputs.to(self.dtype)

    def _widened(self, inputs: Tensor) -> Tensor:
        """Compute the product in the inputs' dtype, with parts that a cache holds."""
        parts = torch.split(self._weight, max(1, _WIDE_PART // self.shape[1]))
        out = torch.cat([inputs @ part.to(inputs.dtype).t() for part in parts], -1)
        return out if self._bias is None else out + self._bias


_measured: dict[tuple[object, ...], Ways] = {}
"""What was measured in this process, so that all decoders of like models round alike."""


def choose_ways(layers: Sequence[Iterable[Product]], most: int = MOST_ROWS) -> None:
    """Measure which ways are fastest for products, and let them take these.

    Only on a CPU ways differ.

    Args:
        layers: products that differ from layer to layer by the values of their weights alone.
        most: the most rows that are timed. More take the way of these.
    """
    loose = [[product for product in layer if not product.is_packed] for layer in layers]
    if not loose or not loose[0] or loose[0][0].device.type != "cpu":
        return
    kinds = (*((product.shape, product.dtype) for product in loose[0]), torch.get_num_threads())
    if kinds not in _measured:
        elements = sum(math.prod(product.shape) for product in loose[0])
        _measured[kinds] = _measure(loose[: max(1, _MOST_TIMED // elements)], most)
    for product in chain(*loose):
        product.ways = _measured[kinds]


@torch.inference_mode()
def _measure(layers: Sequence[Sequence[Product]], most: int) -> Ways:
    """Time the layers by turns: in decoding, too, no cache holds a weight until its next use."""
    if layers[0][0].is_half:
        most = min(most, _WIDENED - 1)
    turns = cycle([[product.timed_copy() for product in layer] for layer in layers])
    inputs = [torch.ones(most, product.shape[1], dtype=product.dtype) for product in layers[0]]

    def run(way: Way, rows: int) -> None:
        for product, given in zip(next(turns), inputs, strict=True):
            product.take(way, given[:rows])

    ways = WAYS if any(product.fits_blocks for product in layers[0]) else UNBLOCKED
    return Ways.measure(run, ways, work_clock(layers[0][0].device), most)


def _part_of(outputs: int) -> int:
    """Return into how many outputs at a time a product divides; 0 if not into useful parts."""
    sizes = range(min(_MOST_OUTPUTS, outputs // 2), _LEAST_OUTPUTS - 1, -1)
    return next((size for size in sizes if outputs % size == 0), 0)


def _in_blocks(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
    return packed


def _padded(inputs: Tensor, rows: int) -> Tensor:
    """Add rows of zeros to inputs [n, C] up to a number of them."""
    missing = rows - len(inputs)
    return F.pad(inputs, (0, 0, 0, missing)) if missing > 0 else inputs


def _fits_blocks(weight: Tensor) -> bool:
    """Whether a weight is large and oneDNN takes it; a half one only where it has instructions."""
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if weight.numel() < _LARGE or weight.device.type != "cpu" or not has_onednn:
        return False
    if weight.dtype == torch.bfloat16:
        return has_avx512() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32
