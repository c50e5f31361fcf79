"""What a layer's products cost for several positions at once, with the weight on either side.

    python -m benchmarks.speed.row_costs --threads 1

Prints microseconds a layer, the median of 40 passes over different layers, and writes nothing.
Decoding uses the left side from 7 to 32 rows on a CPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

REPEATS, LAYERS = 40, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=384)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    hidden = options.hidden
    shapes = ((3 * hidden, hidden), (hidden, hidden), (6 * hidden, hidden), (hidden, 3 * hidden))
    layers = [[torch.randn(shape) for shape in shapes] for _ in range(LAYERS)]
    print(f"hidden size {hidden}, {options.threads} threads; microseconds a layer")
    print("rows  weight right  weight left")
    with torch.inference_mode():
        for rows in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 48):
            right, left = (median(layers, rows, hidden, side) for side in (on_right, on_left))
            print(f"{rows:4d}  {right:12.0f}  {left:11.0f}")


def on_right(inputs: Tensor, weight: Tensor) -> Tensor:
    return F.linear(inputs, weight)


def on_left(inputs: Tensor, weight: Tensor) -> Tensor:
    return (weight @ inputs.t()).t()


def median(
    layers: list[list[Tensor]], rows: int, hidden: int, product: Callable[[Tensor, Tensor], Tensor]
) -> float:
    """Microseconds of the products of one layer."""
    narrow, wide = torch.randn(rows, hidden), torch.randn(rows, 3 * hidden)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for weights in layers:
            for weight in weights:
                product(narrow if weight.shape[1] == hidden else wide, weight)
        seconds.append((time.perf_counter() - start) / len(layers))
    return statistics.median(seconds) * 1e6


if __name__ == "__main__":
    main()
