"""Where a sub-model's normalisation statistics come from, and what norms without any give.

    python -m benchmarks.accuracy.normalisation --data cifar10-jpeg.tar.xz --set train.epochs=4

trains `cifar10-cpreresnet20` with BatchNorm, InstanceNorm and GroupNorm alike. Then the test
accuracy of each width of the BatchNorm network with the statistics of the largest sub-model (cut to
its channels), with its own from 1, 4, 16 and 64 batches of 128 training images, and with its own
from 16 batches that are not augmented; beside it the other two networks, which need none.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.batchnorm import _NormBase

from benchmarks.accuracy.trainings import Training, add_options, trainer_of
from benchmarks.harness import RESULTS, tell, write
from sortednet_cli import LoadedRun, load_run
from sortednet_cli.engine.evaluation.score import score_parts
from sortednet_cli.families import Inputs
from sortednet_cli.nesting import NestedNetwork, recalibrate
from sortednet_cli.space import SubModel

NORMS = ("batch", "instance", "group")
BATCHES = (1, 4, 16, 64)
PLAIN = 16
BATCH = 128
PRESET = "cifar10-cpreresnet20"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", action="append", default=[], help="a setting of all three")
    parser.add_argument("--out", type=Path, default=RESULTS / "normalisation.json")
    add_options(parser)
    options = parser.parse_args()
    trainer = trainer_of(options)
    trainings = [
        Training(f"{PRESET}-{norm}-norm", PRESET, (f"model.config.norm={norm}", *options.set))
        for norm in NORMS
    ]
    results = trainer.results(trainings)
    data = str(options.data.absolute()) if options.data else None
    rows = {
        f"batch, {name}": accuracies
        for name, accuracies in by_statistics(load_run(trainer.folder(trainings[0])), data).items()
    }
    for norm, result in zip(NORMS[1:], results[1:], strict=True):
        rows[norm] = {row["name"]: row["metrics"]["test"]["accuracy"] for row in result["rows"]}
    found = {
        "data": results[0]["data"],
        "settings": options.set,
        "rows": rows,
        "train_seconds": {n: r["train_seconds"] for n, r in zip(NORMS, results, strict=True)},
    }
    write("normalisation", found, options.out)
    print(table(found))


def by_statistics(source: LoadedRun, data: str | None) -> dict[str, dict[str, float]]:
    """Test accuracy of every sub-model by where its statistics come from."""
    network, dataset = source.network(), source.open_data(data)
    space = source.space

    def accuracies() -> dict[str, float]:
        found, parts = {}, {"test": dataset.test}
        for submodel in reversed(space.submodels):
            scores = score_parts(network, [submodel], parts, source.task, BATCH)
            found[submodel.name] = scores[submodel]["test"]["accuracy"]
        return found

    for submodel in space.submodels:
        take_statistics(network, submodel)
    found = {"the largest's": accuracies()}

    def measured(batches: Callable[[], Iterator[tuple[Inputs, Any]]]) -> dict[str, float]:
        for submodel in space.submodels:
            inputs = (inputs for inputs, _ in batches())
            recalibrate(network.family, [submodel], network.at, inputs)
        return accuracies()

    for count in BATCHES:
        found[f"{count} x {BATCH} images"] = measured(
            partial(
                dataset.training_batches,
                0,
                batch_size=BATCH,
                seed=0,
                device=network.device,
                count=count,
            )
        )
    found[f"{PLAIN} x {BATCH} images, not augmented"] = measured(
        partial(dataset.train.batches, BATCH, network.device, limit=PLAIN * BATCH)
    )
    return found


def take_statistics(network: NestedNetwork, submodel: SubModel) -> None:
    """Give a sub-model those of the largest, each norm's leading channels."""
    largest = dict(network.at(network.space.largest).named_modules())
    slices = network.plan(submodel).slices
    for path, layer in network.at(submodel).named_modules():
        if isinstance(layer, _NormBase) and layer.track_running_stats:
            source = largest[slices[f"{path}.weight"].source.rpartition(".")[0]]
            for name in ("running_mean", "running_var"):
                own = layer.get_buffer(name)
                own.copy_(source.get_buffer(name)[: len(own)])


def table(result: dict[str, Any]) -> str:
    """Test accuracy in percent, a column for each sub-model."""
    names = list(next(iter(result["rows"].values())))
    lines = [f"| norm, statistics | {' | '.join(names)} |", "|" + " --- |" * (len(names) + 1)]
    for name, row in result["rows"].items():
        cells = " | ".join(f"{100 * row[submodel]:.1f}" for submodel in names)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    tell(main)
