"""Whether stepping only the columns that a narrow sub-model used would be faster than all of them.

    python -m benchmarks.speed.strided_step

AdamW on an embedding of 30,522 x 768 weights of which the first 192 columns have a gradient, by
every way that torch offers, beside a tensor that has these columns alone. Writes
benchmarks/results/strided_step.json.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from benchmarks.harness import in_turn, positive, write

ROWS, COLUMNS, USED = 30_522, 768, 192
CHUNK = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=positive, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {"seconds": measure(options.repeats)}
    write("strided_step", result)
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Milliseconds of a step by each way."""
    rows = ["| step of AdamW | ms |", "| --- | --- |"]
    rows += [
        f"| {name} | {1e3 * statistics.median(seconds):.1f} |"
        for name, seconds in result["seconds"].items()
    ]
    return "\n".join(rows)


def measure(repeats: int) -> dict[str, list[float]]:
    whole = tensors(COLUMNS)
    used = [tensor[:, :USED] for tensor in whole]
    alone = tensors(USED)
    scratch = [torch.empty(CHUNK, USED) for _ in range(4)]
    work = {
        "whole tensor, fused (what is done)": lambda: step(whole, fused=True),
        "used columns, strided": lambda: step(used, fused=False),
        "used columns, through a contiguous scratch": lambda: through(used, scratch),
        "a tensor of these columns alone, fused": lambda: step(alone, fused=True),
    }
    return in_turn(work, repeats)


def tensors(columns: int) -> list[Tensor]:
    """A parameter, its gradient and both moments."""
    return [torch.rand(ROWS, columns) for _ in range(4)]


def step(own: Sequence[Tensor], *, fused: bool) -> None:
    parameter, gradient, first, second = own
    adamw(
        [parameter],
        [gradient],
        [first],
        [second],
        [],
        [torch.tensor(1.0)],
        fused=fused,
        foreach=not fused,
        amsgrad=False,
        beta1=0.9,
        beta2=0.999,
        lr=1e-3,
        weight_decay=0.01,
        eps=1e-8,
        maximize=False,
    )


def through(used: Sequence[Tensor], scratch: Sequence[Tensor]) -> None:
    """Copy some rows together, step them there, and copy them back."""
    for start in range(0, ROWS, CHUNK):
        rows = [tensor[start : start + CHUNK] for tensor in used]
        copies = [tensor[: len(rows[0])] for tensor in scratch]
        torch._foreach_copy_(copies, rows)
        step(copies, fused=True)
        for place in (0, 2, 3):
            rows[place].copy_(copies[place])


if __name__ == "__main__":
    main()
