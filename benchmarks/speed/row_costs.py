"""What a layer's products cost for several positions at once, by the way to compute them.

    python -m benchmarks.speed.row_costs --hidden 576 --ffn 1536

Prints microseconds a layer, the median of 15 passes over different layers, and writes nothing.
`right` is a stock linear layer; `left` has the weight on the left; `parts` computes some
dozens of outputs at a time. `blocks` and `packed` are oneDNN's, with one to three rows filled up to
four: `packed` finds the weight in blocks, which takes a copy of it. The last two columns say which
way decoding takes here, without and with such a copy. On one thread it is CPU time, which other
processes change less.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import torch
from torch import Tensor

from benchmarks.harness import Work, in_turn
from sortednet_cli.engine.generation.product_ways import WAYS, Way
from sortednet_cli.engine.generation.products import Product, choose_ways

REPEATS, LAYERS = 15, 8
ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--ffn", type=int, help="by default three times the hidden size")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    hidden, ffn = options.hidden, options.ffn or 3 * options.hidden
    shapes = ((3 * hidden, hidden), (hidden, hidden), (2 * ffn, hidden), (hidden, ffn))
    layers = [[Product(torch.randn(shape), None) for shape in shapes] for _ in range(LAYERS)]
    choose_ways(layers)
    chosen = layers[0][0].ways
    products = [product.with_copy() for layer in layers for product in layer]
    print(f"hidden size {hidden}, {options.threads} threads; microseconds a layer")
    print("rows" + "".join(f"{name:>9}" for name in (*WAYS, "taken", "beside")))
    with torch.inference_mode():
        for rows in ROWS:
            inputs = [torch.randn(rows, product.shape[1]) for product in products]
            work: dict[str, Work] = {way: partial(run, products, way, inputs) for way in WAYS}
            seconds = in_turn(work, REPEATS).values()
            costs = (statistics.median(spent) / LAYERS * 1e6 for spent in seconds)
            taken = (table[min(rows, len(table) - 1)] for table in (chosen.alone, chosen.beside))
            cells = (*(f"{cost:.0f}" for cost in costs), *taken)
            print(f"{rows:4d}" + "".join(f"{cell:>9}" for cell in cells))


def run(products: list[Product], way: Way, inputs: list[Tensor]) -> None:
    for product, given in zip(products, inputs, strict=True):
        product.take(way, given)


if __name__ == "__main__":
    main()
