"""Which memory format and precision are faster, for each network and width.

    python -m benchmarks.speed.memory_formats [--threads 2]

For three widths of a network at full depth: forward and backward of the nested network's views in
`channels_last`, in bf16 where the processor has units for it, and in both, over fp32 in the default
format, in turn. The last column says whether `channels_last` may be taken in fp32. Writes
benchmarks/results/memory_formats-SET.json, where SET is the newest instruction set that oneDNN may
use.
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
from sortednet_cli.machine.precision import has_bf16
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
        "| network | batch | sub-model | `channels_last` | bf16 | both | kernels trusted |",
        "|" + " --- |" * 7,
    ]
    rows += [
        f"| {case['name']} | {case['batch_size']} | {row['submodel']} | {row['ratio']:.2f}"
        f" | {_shown(row, 'bf16')} | {_shown(row, 'bf16_channels_last')}"
        f" | {'yes' if case['trusted'] else 'no'} |"
        for case in result["cases"]
        for row in case["rows"]
    ]
    return "\n".join(rows)


def _shown(row: dict[str, Any], way: str) -> str:
    return f"{row[way]:.2f}" if way in row else ""


def measure(case: Case, repeats: int) -> dict[str, Any]:
    overrides = [*case.overrides, *PLAIN, "train.precision=fp32", "train.rule=sorted"]
    overrides.append(f"train.batch_size={case.batch_size}")
    networks = {}
    for name, value in (("default", "false"), ("channels_last", "true")):
        chosen_format = f"train.channels_last={value}"
        spec, inputs, networks[name] = network_of(case.preset, [*overrides, chosen_format])
    network = networks["default"]
    ((batch, _),) = random_part(inputs, 1, spec.train.batch_size, network.device).samples

    def run(module: nn.Module, in_bf16: bool) -> None:
        module.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=in_bf16):
            outputs = network.family.forward(module, batch)
        torch.autograd.backward(outputs.float().mean())

    precisions = {"": False, **({"bf16_": True} if has_bf16(network.device) else {})}
    rows = []
    for submodel in chosen(network):
        modules = {name: nested.at(submodel).train() for name, nested in networks.items()}
        ways = {
            f"{prefix}{name}": partial(run, module, in_bf16)
            for prefix, in_bf16 in precisions.items()
            for name, module in modules.items()
        }
        seconds = in_turn(ways, repeats)
        row: dict[str, Any] = {"submodel": submodel.name, "seconds": seconds}
        row["ratio"] = ratio(seconds, "channels_last", "default")
        if len(precisions) > 1:
            row["bf16"] = ratio(seconds, "bf16_default", "default")
            row["bf16_channels_last"] = ratio(seconds, "bf16_channels_last", "default")
        rows.append(row)
    refused = overrunning_layer(network.family, network.space, network.device, False)
    return {
        "name": case.name,
        "batch_size": spec.train.batch_size,
        "trusted": refused is None,
        "rows": rows,
    }


if __name__ == "__main__":
    main()
