"""What keeps narrow sub-models from being as cheap as their multiply-adds promise.

    python -m benchmarks.speed.narrow_models [--threads 2]

For every width of a network at full depth, one training step in parts, in turn:

- `native / promised`: forward and backward of a contiguous stock module, against the widest one's
  time scaled by multiply-adds. Above 1 the kernels themselves are worse on narrow tensors.
- `views / native`: forward and backward of the nested network's views, their gradients collected,
  against that module, whose gradients are set to None before each pass.
- `update, nested` and `update, native`: clipping the gradient and the fused optimizer's step, as
  shares of the native forward and backward. The nested one passes over whole tensors of the root,
  whatever slice of them the sub-model uses.

Writes benchmarks/results/narrow_models.json, with -N in its name for N threads.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from typing import Any

import torch
from torch import nn

from benchmarks.harness import PLAIN, in_turn, network_of, positive, random_part, ratio, write
from benchmarks.speed.engine_cost import CASES, Case
from sortednet_cli import allocator
from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.families import Inputs
from sortednet_cli.machine.device import move_to
from sortednet_cli.nesting import NestedNetwork, cost_of, ignore_layout_warning
from sortednet_cli.space import SubModel
from sortednet_cli.spec import TrainSpec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=positive, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    allocator.keep_freed_memory()
    ignore_layout_warning()
    result = {"cases": [measure(case, options.repeats) for case in CASES]}
    write("narrow_models" + (f"-{options.threads}" if options.threads > 1 else ""), result)
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """A row for each width of each network."""
    rows = [
        "| network | sub-model | native / promised | views / native | update, nested"
        " | update, native |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rows += [
        f"| {case['name']} | {row['submodel']} | {row['promised']:.2f} | {row['views']:.2f}"
        f" | {100 * row['update_nested']:.1f}% | {100 * row['update_native']:.1f}% |"
        for case in result["cases"]
        for row in case["rows"]
    ]
    return "\n".join(rows)


def measure(case: Case, repeats: int) -> dict[str, Any]:
    overrides = [*case.overrides, *PLAIN, "train.precision=fp32", "train.rule=sorted"]
    if case.batch_size is not None:
        overrides.append(f"train.batch_size={case.batch_size}")
    spec, inputs, network = network_of(case.preset, overrides)
    ((batch, _),) = random_part(inputs, 1, spec.train.batch_size, network.device).samples
    rows: list[dict[str, Any]] = []
    for submodel in chosen(network):
        macs = cost_of(network.family, submodel, inputs.random_inputs, inputs.num_units).macs
        seconds = time_parts(network, submodel, batch, spec.train, repeats)
        median = {name: statistics.median(values) for name, values in seconds.items()}
        widest: dict[str, Any] = rows[0] if rows else {"macs": macs, "median": median}
        expected = widest["median"]["native"] * macs / widest["macs"]
        rows.append(
            {
                "submodel": submodel.name,
                "macs": macs,
                "seconds": seconds,
                "median": median,
                "promised": median["native"] / expected,
                "views": ratio(seconds, "views", "native"),
                "update_nested": ratio(seconds, "update_nested", "native"),
                "update_native": ratio(seconds, "update_native", "native"),
            }
        )
    return {"name": case.name, "batch_size": spec.train.batch_size, "rows": rows}


def chosen(network: NestedNetwork) -> list[SubModel]:
    """Full depth at three widths (or of the axis that there is), the widest first."""
    deepest = network.space.largest.axes["depth"]
    found = [s for s in network.space.submodels if s.axes["depth"] == deepest]
    return list(dict.fromkeys([found[-1], found[len(found) // 2], found[0]]))


def time_parts(
    network: NestedNetwork, submodel: SubModel, batch: Inputs, spec: TrainSpec, repeats: int
) -> dict[str, list[float]]:
    """Seconds of each part of a step, one after the other in every round."""
    views = network.at(submodel).train()
    native = copy.deepcopy(network.standalone(submodel))
    move_to(native, network.device, spec.in_channels_last).train()
    optimizer = RootOptimizer(network, spec)
    step = native_update(native, spec)
    touched = network.plan(submodel).sources

    def run(module: nn.Module) -> None:
        torch.autograd.backward(network.family.forward(module, batch).float().mean())

    def run_native() -> None:
        native.zero_grad()
        run(native)

    def run_views() -> None:
        network.zero_gradients()
        with network.collecting([submodel]):
            run(views)

    work = {
        "native": run_native,
        "views": run_views,
        "update_nested": lambda: optimizer.step(touched, spec.lr),
        "update_native": step,
    }
    return in_turn(work, repeats)


def native_update(module: nn.Module, spec: TrainSpec) -> Any:
    """The same optimizer over the module's own tensors."""
    optimizer: torch.optim.Optimizer
    if spec.optimizer == "adamw":
        optimizer = torch.optim.AdamW(module.parameters(), lr=spec.lr, fused=True)
    else:
        optimizer = torch.optim.SGD(
            module.parameters(), lr=spec.lr, momentum=spec.momentum, nesterov=True, fused=True
        )

    def update() -> None:
        if spec.clip is not None:
            nn.utils.clip_grad_norm_(module.parameters(), spec.clip)
        optimizer.step()

    return update


if __name__ == "__main__":
    main()
