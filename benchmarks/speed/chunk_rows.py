"""What the size of a chunk of logits costs a training with a large vocabulary.

    python -m benchmarks.speed.chunk_rows

SmolLM2-135M's shapes with two layers, each an exit, take micro-batches of four random texts of 512
tokens. Each chunk's backward pass makes and adds a gradient of the whole head, so few rows a chunk
take longer; many rows take memory for their logits. Every size takes its turn in one process.
Writes benchmarks/results/chunk_rows.json.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import torch

from benchmarks.harness import in_turn, network_of, positive, random_part, write
from sortednet_cli.engine.training.micro_batch import MicroBatches
from sortednet_cli.rules import equal_shares
from sortednet_cli.tasks import LanguageModelling, chunks

ROWS = (170, 256, 512, 1024, 2048)
SETTINGS = ("model.pretrained=", "model.config.num_hidden_layers=2", "space.depth=[1,2]")
WEIGHTS = ("train.depth_weights=", "train.last_depth_weights=")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=positive, default=7)
    parser.add_argument("--threads", type=positive, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seconds = {precision: measure(precision, options.repeats) for precision in ("fp32", "bf16")}
    result = {"threads": options.threads, "seconds": seconds}
    write("chunk_rows", result)
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Time of a micro-batch beside the one with the fewest rows, and the size of a chunk."""
    lines = [
        "| rows of a chunk | its logits in float32 | fp32 | bf16 |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for rows in ROWS:
        cells = []
        for seconds in result["seconds"].values():
            pairs = zip(seconds[str(rows)], seconds[str(ROWS[0])], strict=True)
            cells.append(f"{statistics.median(a / b for a, b in pairs):.2f}")
        lines.append(f"| {rows:,} | {rows * 49_152 / 2**18:.0f} MiB | {' | '.join(cells)} |")
    return "\n".join(lines)


def measure(precision: str, repeats: int) -> dict[str, list[float]]:
    settings = [*SETTINGS, *WEIGHTS, f"train.precision={precision}"]
    spec, inputs, network = network_of("gsm8k-smollm2", settings)
    micro = MicroBatches(network, LanguageModelling(inputs.output_shape(1)[-1]), spec.train)
    (batch,) = random_part(inputs, 1, 4, torch.device("cpu")).samples
    drawn = equal_shares(network.space.submodels)
    network.zero_gradients()

    def work(rows: int) -> None:
        with mock.patch.object(chunks, "TRAINING_ROWS", rows):
            micro.add_gradients(batch, drawn)

    ways: dict[str, Callable[[], object]] = {str(rows): partial(work, rows) for rows in ROWS}
    return in_turn(ways, repeats)


if __name__ == "__main__":
    main()
