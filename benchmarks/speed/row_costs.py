"""What a layer's products cost for several positions at once, by the layout of the weights.

    python -m benchmarks.speed.row_costs --hidden 576 --ffn 1536

Prints microseconds a layer, the median of 15 passes over different layers, and writes nothing.
`right` is a stock linear layer and `left` has the weight on the left. `packed` has it in oneDNN's
blocks, with one to three rows filled up to four. With AVX-512, decoding packs large weights for
several rows; it takes the left side for all else, up to 32 rows. On one thread it is CPU time,
which other processes change less.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.harness import in_turn
from sortednet_cli.engine.generation import products
from sortednet_cli.engine.generation.products import Product

REPEATS, LAYERS = 15, 8
Layer = list[Callable[[Tensor], Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--ffn", type=int, help="by default three times the hidden size")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    hidden, ffn = options.hidden, options.ffn or 3 * options.hidden
    shapes = ((3 * hidden, hidden), (hidden, hidden), (2 * ffn, hidden), (hidden, ffn))
    weights = [torch.randn(shape) for _ in range(LAYERS) for shape in shapes]
    kinds: dict[str, Layer] = {
        "right": [partial(F.linear, weight=weight) for weight in weights],
        "left": [Product(weight, None, pack=False) for weight in weights],
    }
    with mock.patch.object(products, "has_avx512", lambda: True):
        kinds["packed"] = [Product(weight, None, pack=True) for weight in weights]
    print(f"hidden size {hidden}, {options.threads} threads; microseconds a layer")
    print("rows" + "".join(f"{kind:>9}" for kind in kinds))
    with torch.inference_mode():
        for rows in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32):
            inputs = [torch.randn(rows, weight.shape[1]) for weight in weights]
            seconds = in_turn(
                {kind: partial(run, layer, inputs) for kind, layer in kinds.items()},
                REPEATS,
            )
            costs = (statistics.median(spent) / LAYERS * 1e6 for spent in seconds.values())
            print(f"{rows:4d}" + "".join(f"{cost:9.0f}" for cost in costs))


def run(layer: Layer, inputs: list[Tensor]) -> None:
    for product, given in zip(layer, inputs, strict=True):
        product(given)


if __name__ == "__main__":
    main()
