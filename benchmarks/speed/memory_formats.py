"""Which memory format is faster, for each network and width: `channels_last` against the default.

    python -m benchmarks.speed.memory_formats [--threads 2]

For three widths of a network at full depth: forward and backward of the nested network's views in
each of the two formats, in turn. The last column is what `train.channels_last = "auto"` decides.
Writes benchmarks/results/memory_formats-SET.json, where SET is the newest instruction set that
oneDNN may use.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.harness import PLAIN, in_turn, network_of, positive, random_part, ratio, write
from benchmarks.speed.engine_cost import CASES, Case
from benchmarks.speed.narrow_models import chosen
from sortednet_cli import allocator
from sortednet_cli.engine.training.kernels import overrunning_layer
from sortednet_cli.nesting import ignore_layout_warning

NETWORKS = ("cPreResNet20", "MobileNetV2", "ResNet-50")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=positive, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    allocator.keep_freed_memory()
    ignore_layout_warning()
    cases = [measure(case, options.repeats) for case in CASES if case.name in NETWORKS]
    result = {"instruction_set": instruction_set(), "cases": cases}
    write(f"memory_formats-{result['instruction_set']}", result)
    print(table(result))


def instruction_set() -> str:
    """The newest instructions that oneDNN may use, in lower case."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return (limit or torch.backends.cpu.get_cpu_capability()).lower()


def table(result: dict[str, Any]) -> str:
    """A row for each width of each network."""
    rows = [
        "| network | batch | sub-model | `channels_last` / default | kernels trusted |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows += [
        f"| {case['name']} | {case['batch_size']} | {row['submodel']} | {row['ratio']:.2f}"
        f" | {'yes' if case['trusted'] else 'no'} |"
        for case in result["cases"]
        for row in case["rows"]
    ]
    return "\n".join(rows)


def measure(case: Case, repeats: int) -> dict[str, Any]:
    overrides = [*case.overrides, *PLAIN, "train.precision=fp32", "train.rule=sorted"]
    overrides.append(f"train.batch_size={case.batch_size}")
    networks = {}
    for name, value in (("default", "false"), ("channels_last", "true")):
        chosen_format = f"train.channels_last={value}"
        spec, inputs, networks[name] = network_of(case.preset, [*overrides, chosen_format])
    network = networks["default"]
    ((batch, _),) = random_part(inputs, 1, spec.train.batch_size, network.device).samples

    def run(module: nn.Module) -> None:
        module.zero_grad()
        torch.autograd.backward(network.family.forward(module, batch).float().mean())

    rows = []
    for submodel in chosen(network):
        modules = {name: nested.at(submodel).train() for name, nested in networks.items()}
        seconds = in_turn({name: partial(run, modules[name]) for name in modules}, repeats)
        found = ratio(seconds, "channels_last", "default")
        rows.append({"submodel": submodel.name, "seconds": seconds, "ratio": found})
    refused = overrunning_layer(network.family, network.space, network.device, False)
    return {
        "name": case.name,
        "batch_size": spec.train.batch_size,
        "trusted": refused is None,
        "rows": rows,
    }


if __name__ == "__main__":
    main()
