"""What one run stores in place of all sub-models, and what switching between them takes.

    python -m benchmarks.speed.switching runs/digits-resnet runs/cifar10-resnet

Bytes of the run's weights and statistics beside those of every sub-model cut out as an artifact
(all are written, into a temporary folder); microseconds to get another sub-model of a network in
memory, the first time and again, beside loading its artifact; latency of an artifact's module
beside a module of its size built directly by the stock class. One thread, batch size 1.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import in_turn, over_runs, ratio, tell
from sortednet_cli import LoadedRun, load_artifact
from sortednet_cli.engine.export.extract import extract

ROUNDS = 60


def measure(source: LoadedRun) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        artifacts = [
            extract(source, submodel, Path(folder) / submodel.name).path
            for submodel in source.space.submodels
        ]
        stored = [path / "model.safetensors" for path in artifacts]
        middle = artifacts[len(artifacts) // 2]
        loading = [timed(lambda: load_artifact(middle).module()) for _ in range(9)]
        run = [source.path / f"{name}.safetensors" for name in ("weights", "statistics")]
        return {
            "name": source.name,
            "submodels": len(artifacts),
            "run_bytes": sum(path.stat().st_size for path in run if path.is_file()),
            "weights_bytes": run[0].stat().st_size,
            "artifact_bytes": sum(path.stat().st_size for path in stored),
            "load_seconds": statistics.median(loading),
            **switches(source),
            "latency": [latency(artifacts[i]) for i in (0, len(artifacts) // 2, -1)],
        }


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def switches(source: LoadedRun) -> dict[str, float]:
    """Seconds to get each sub-model of a network in memory, the first time and again."""
    network = source.network()
    names = [submodel.axes for submodel in source.space.submodels]
    return {
        name: statistics.median(timed(lambda axes=axes: network.at(**axes)) for axes in names)  # type: ignore[misc]
        for name in ("first_seconds", "again_seconds")
    }


@torch.no_grad()
def latency(path: Path) -> dict[str, Any]:
    """An artifact's module against one built directly, in turn."""
    artifact = load_artifact(path)
    family = artifact.family
    cut = artifact.module()
    direct = family.build(family.shrink(artifact.submodel)).eval()
    inputs = artifact.format.random_inputs(1)
    seconds = in_turn(
        {
            "cut": lambda: family.forward(cut, inputs),
            "direct": lambda: family.forward(direct, inputs),
        },
        ROUNDS,
        warmup=5,
    )
    return {
        "submodel": artifact.submodel.name,
        "milliseconds": 1e3 * statistics.median(seconds["cut"]),
        "of_direct": ratio(seconds, "cut", "direct"),
    }


def table(result: dict[str, Any]) -> str:
    """Sizes, switching times and latencies of each run."""
    lines = [
        "| run | its size | its weights | all artifacts | of the run"
        " | switch, first time | switch again | load an artifact"
        " | latency of artifacts, of direct modules |",
        "|" + " --- |" * 9,
    ]
    for run in result["runs"]:
        latencies = ", ".join(f"{one['of_direct']:.2f}" for one in run["latency"])
        lines.append(
            f"| {run['name']}, {run['submodels']} sub-models | {run['run_bytes'] / 1e6:.2f} MB"
            f" | {run['weights_bytes'] / 1e6:.2f} MB"
            f" | {run['artifact_bytes'] / 1e6:.1f} MB"
            f" | {run['artifact_bytes'] / run['run_bytes']:.1f}x"
            f" | {1e3 * run['first_seconds']:.1f} ms | {1e6 * run['again_seconds']:.1f} µs"
            f" | {1e3 * run['load_seconds']:.0f} ms | {latencies} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    tell(lambda: over_runs("switching", __doc__, measure, table))
