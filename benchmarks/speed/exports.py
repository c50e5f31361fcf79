"""What each export format makes of small networks: how near, how large and how fast.

    python -m benchmarks.speed.exports [--jobs 2]

For every network and every format of `sortednet extract --format` that takes its inputs: whether
a file was written, in what it was run, the largest difference between its logits and torch's, as a
share of the largest logit, its size, and the latency of one sample beside torch, on one thread.
Weights and inputs are random, so no scores are measured here. A format whose packages are not
installed is left out, with a line that says so.

Writes benchmarks/results/exports.json.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.harness import in_turn, positive, ratio, write
from sortednet_cli.data import nominal_format
from sortednet_cli.engine.export.formats import Format, find_format, own_formats
from sortednet_cli.engine.export.further import call
from sortednet_cli.errors import RequestError
from sortednet_cli.families import Inputs, open_family, root_of
from sortednet_cli.nesting import init_network
from sortednet_cli.spec import load_preset

NUM_WRITTEN = 4
"""Samples that a file is written from and compared on."""


@dataclass(frozen=True)
class Case:
    """A network: a preset's largest, with other sizes."""

    name: str
    preset: str
    overrides: tuple[str, ...] = ()


_BERT = (
    *("model.config.hidden_size=128", "model.config.num_hidden_layers=4"),
    *("model.config.num_attention_heads=4", "model.config.intermediate_size=512"),
    *("space.width=[0.5,1.0]", "space.depth=[2,4]"),
)
CASES = (
    Case("cPreResNet20", "cifar10-resnet"),
    Case("MobileNetV2", "cifar10-mobilenetv2"),
    Case("BERT, 4 layers of 128", "sst2-bert", _BERT),
    Case("LLaMA, 8 layers of 128", "pydoc-llama", ("data.max_length=64",)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=positive, default=15)
    parser.add_argument("--jobs", type=positive, default=1, help="networks at a time")
    options = parser.parse_args()
    # A process for each network: no runtime's threads and memory stay for the next one.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, spawn, max_tasks_per_child=1) as pool:
        cases = list(pool.map(partial(measure, repeats=options.repeats), CASES))
    result = {"cases": cases}
    write("exports", result)
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """A row for each format of each network."""
    rows = [
        "| network | format | verified with | largest difference | size | latency / torch |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for case in result["cases"]:
        mib = case["size_bytes"] / 2**20
        rows.append(f"| {case['name']} | safetensors | torch | 0 | {mib:.2f} MiB | 1 |")
        rows += [_row(case["name"], row) for row in case["rows"]]
    return "\n".join(rows)


def _row(name: str, row: dict[str, Any]) -> str:
    if row["error"] is not None:
        return f"| {name} | {row['format']} | not written: {row['error']} | | | |"
    mib = row["size_bytes"] / 2**20
    if row["difference"] is None:
        return f"| {name} | {row['format']} | unverified | | {mib:.2f} MiB | |"
    return (
        f"| {name} | {row['format']} | {row['runtime']} | {row['difference']:.1e} | {mib:.2f} MiB"
        f" | {row['latency']:.2f} |"
    )


def measure(case: Case, repeats: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    spec = load_preset(case.preset, case.overrides)
    form = nominal_format(spec)
    family = open_family(root_of(spec.model, spec.task, form.facts()))
    module = family.logits_module(init_network(family, 0).eval())
    made = form.random_inputs(NUM_WRITTEN, torch.Generator().manual_seed(0))
    inputs = family.logits_inputs(made)
    size = sum(tensor.numel() * tensor.element_size() for tensor in set(module.parameters()))
    rows = []
    for name in own_formats():
        further = find_format(name)
        assert further is not None
        if further.refusal(form.kind) is not None:
            continue
        try:
            further.check(form.kind)
        except RequestError as missing:
            print(f"left out: {missing}")
            continue
        rows.append(_measure(further, module, inputs, repeats))
        print(case.name, rows[-1], flush=True)
    return {"name": case.name, "size_bytes": size, "rows": rows}


def _measure(further: Format, module: nn.Module, inputs: Inputs, repeats: int) -> dict[str, Any]:
    about = {"format": further.name, "runtime": further.runtime}
    nothing: dict[str, Any] = {"error": None, "difference": None, "latency": None}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        file = Path(folder) / further.file
        try:
            run = further.write(module, inputs, file) or further.open(file)
        except Exception as error:  # the table says so
            reason = " ".join(str(error).split()) or type(error).__name__
            return {**about, **nothing, "size_bytes": None, "error": reason[:100]}
        found: dict[str, Any] = {**about, **nothing}
        found["size_bytes"] = sum(path.stat().st_size for path in further.files(Path(folder)))
        if run is None:
            return found
        logits = call(module, inputs)
        found["difference"] = float((run(inputs) - logits).abs().max() / logits.abs().max())
        one = first(inputs)
        work = {"file": partial(run, one), "torch": partial(call, module, one)}
        seconds = in_turn(work, repeats, warmup=5)
        found["latency"] = ratio(seconds, "file", "torch")
        found["milliseconds"] = {name: 1e3 * statistics.median(s) for name, s in seconds.items()}
    return found


def first(inputs: Inputs) -> Inputs:
    if isinstance(inputs, dict):
        return {name: tensor[:1].contiguous() for name, tensor in inputs.items()}
    return inputs[:1].contiguous()


if __name__ == "__main__":
    main()
