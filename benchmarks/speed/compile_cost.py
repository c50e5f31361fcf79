"""What `train.compile` costs and gains: the same updates, compiled and not, in turn.

    python -m benchmarks.speed.compile_cost [--device cuda --precision bf16]

Trains over every sub-model of a search space under the rule `sorted`. Writes the seconds until
every sub-model was compiled, the number of compilations, and the ratio of the updates after that
to benchmarks/results/compile_cost.json (with the device's name where it is no CPU).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch._inductor.config
from torch._dynamo.utils import counters

from benchmarks.harness import (
    PLAIN,
    device_suffix,
    network_of,
    positive,
    random_part,
    ratio,
    settle,
    write,
)
from benchmarks.speed.engine_cost import Batches
from sortednet_cli.engine.sources.root import task_of
from sortednet_cli.engine.training.loop import Position, Trainer, Update
from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.nesting import NestedNetwork, ignore_layout_warning
from sortednet_cli.rules import make_rule


@dataclass(frozen=True)
class Case:
    """A preset's network with a search space small enough to visit whole."""

    name: str
    preset: str
    batch_size: int
    overrides: tuple[str, ...]


CASES = [
    Case("cPreResNet20", "cifar10-resnet", 128, ("space.width=[0.5, 1.0]",)),
    Case("LLaMA", "gsm8k-llama", 4, ("space.ffn=[0.5, 1.0]",)),
    Case("BERT", "sst2-bert", 16, ("model.config.num_hidden_layers=4", "space.depth=[1, 2, 3, 4]")),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=positive, default=16, help="updates that are compared")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ignore_layout_warning()
    cases = [measure(case, options) for case in CASES]
    result = {"precision": options.precision, "cases": cases}
    write("compile_cost" + device_suffix(options.device), result)
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Cost and gain, a row for each network."""
    rows = [
        "| network | sub-models | compilations | seconds until all ran | plain / compiled |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows += [
        f"| {case['name']} | {case['submodels']} | {case['compilations']}"
        f" | {case['seconds_to_compile']:.0f} | {case['gain']:.2f}x |"
        for case in result["cases"]
    ]
    return "\n".join(rows)


def measure(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    overrides = [
        *case.overrides,
        *PLAIN,
        "train.rule=sorted",
        f"train.batch_size={case.batch_size}",
        f"train.precision={options.precision}",
    ]
    torch._dynamo.reset()
    torch._inductor.config.force_disable_caches = True  # what an earlier run left on disk
    counters.clear()
    plain, num_submodels, _ = updates(case, overrides, options.device)
    compiled, _, network = updates(case, [*overrides, "train.compile=true"], options.device)
    start = time.perf_counter()
    visit(network, case, options)
    seconds_to_compile = time.perf_counter() - start
    seconds: dict[str, list[float]] = {"plain": [], "compiled": []}
    for repeat in range(2 + options.repeats):
        for name, running in (("plain", plain), ("compiled", compiled)):
            settle()
            start = time.perf_counter()
            next(running)
            settle()
            if repeat >= 2:
                seconds[name].append(time.perf_counter() - start)
    return {
        "name": case.name,
        "preset": case.preset,
        "batch_size": case.batch_size,
        "submodels": num_submodels,
        "compilations": counters["stats"]["unique_graphs"],
        "seconds_to_compile": seconds_to_compile,
        "seconds": seconds,
        "gain": ratio(seconds, "plain", "compiled"),
    }


def updates(
    case: Case, overrides: list[str], device: str
) -> tuple[Iterator[Update], int, NestedNetwork]:
    """The engine's own updates over random batches, without end."""
    spec, inputs, network = network_of(case.preset, overrides, device)
    network.compiles = spec.train.compile
    endless = spec.train.model_copy(update={"updates": 1 << 30, "epochs": None})
    data: Any = Batches(random_part(inputs, 4, case.batch_size, network.device))
    optimizer = RootOptimizer(network, endless)
    rule = make_rule(endless, network.space)
    trainer = Trainer(network, task_of(inputs), rule, data, optimizer, endless)
    return trainer.updates(Position(), lambda: False), len(network.space), network


def visit(network: NestedNetwork, case: Case, options: argparse.Namespace) -> None:
    """Run every sub-model forwards and backwards once: what is not compiled yet will be."""
    _, inputs, _ = network_of(case.preset, list(case.overrides))
    ((batch, _),) = random_part(inputs, 1, case.batch_size, network.device).samples
    kind = network.device.type
    for submodel in network.space.submodels:
        shared = network.shared_pass([submodel], training=True)
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=options.precision == "bf16"):
            (states,) = shared.states(batch)
            logits = shared.logits(0, states)
        torch.autograd.backward(logits.float().mean())
    network.zero_gradients()
    settle()


if __name__ == "__main__":
    main()
