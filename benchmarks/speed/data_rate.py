"""How fast images come when nothing takes them, against how fast a model is trained on them.

    python -m benchmarks.speed.data_rate

45,000 random 32x32 images in memory (their values do not matter), batches of 128, cropped and
flipped as `cifar10-resnet` has it. The fastest consumer of that preset is its smallest sub-model,
the slowest its largest: images per second of the pipeline are compared with both. Writes
benchmarks/results/data_rate.json.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from typing import Any

import torch

from benchmarks.harness import Work, in_turn, network_of, positive, random_part, write
from benchmarks.speed.engine_cost import Batches, native_step
from sortednet_cli.data.images.augment import Augmentation
from sortednet_cli.data.images.format import ImageFormat
from sortednet_cli.data.images.memory import MemoryTrainingPart
from sortednet_cli.engine.sources.root import task_of
from sortednet_cli.nesting import ignore_layout_warning

NUM_IMAGES, BATCH, BATCHES = 45_000, 128, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=positive, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ignore_layout_warning()
    result = measure(options.repeats)
    write("data_rate", result)
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Images per second, and what the pipeline's rate is of each."""
    rows = ["| what | images per second | pipeline / this |", "| --- | --- | --- |"]
    rate = result["rates"]["pipeline"]
    rows += [
        f"| {name} | {value:,.0f} | {rate / value:.1f} |" for name, value in result["rates"].items()
    ]
    return "\n".join(rows)


def measure(repeats: int) -> dict[str, Any]:
    spec, inputs, network = network_of("cifar10-resnet", ["train.precision=fp32"])
    assert isinstance(inputs, ImageFormat)
    images = torch.randint(256, (NUM_IMAGES, 3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(10, (NUM_IMAGES,))
    part = MemoryTrainingPart(images, labels, inputs, Augmentation("crop", 4, flip=True))
    batches = part.training_batches(
        itertools.count(), batch_size=BATCH, seed=0, device=network.device
    )
    random = Batches(random_part(inputs, BATCHES, BATCH, network.device)).training_batches(0)

    def pipeline() -> None:
        for _ in range(BATCHES):
            next(batches)

    work: dict[str, Work] = {"pipeline": pipeline}
    for name in ("smallest", "largest"):
        submodel = getattr(network.space, name)
        step = native_step(network, submodel, task_of(inputs), spec.train)

        def train(step: Any = step) -> None:
            for _ in range(BATCHES):
                step(next(random))

        work[f"training of {submodel}"] = train
    seconds = in_turn(work, repeats)
    count = BATCH * BATCHES
    rates = {name: count / statistics.median(found) for name, found in seconds.items()}
    return {"rates": rates, "seconds": seconds}


if __name__ == "__main__":
    main()
