"""How many kernels the host launches for an update, a scored pass, a token and a round of drafts.

    python -m benchmarks.speed.launches

Counts a GPU's kernels by torch's profiler. A machine without one counts on the simulated GPU of
the tests, where each operation is one launch; a real one may run several kernels for it. Counts do
not depend on widths or weights: language networks are made narrow, batches are small and random.
Writes benchmarks/results/launches.json, or a file with the GPU's name.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.harness import (
    PLAIN,
    RandomPart,
    device_suffix,
    network_of,
    random_part,
    settle,
    tell,
    write,
)
from benchmarks.speed.engine_cost import BERT_OF_4, Batches
from sortednet_cli.data import InputFormat
from sortednet_cli.engine.evaluation.score import score_parts
from sortednet_cli.engine.generation import (
    Decoder,
    DecodingStats,
    Fixed,
    Greedy,
    History,
    Plain,
    Speculative,
    Stack,
)
from sortednet_cli.engine.sources.root import task_of
from sortednet_cli.engine.training.loop import Position, Trainer
from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.machine.device import choose_device
from sortednet_cli.machine.graphs import WARMUPS
from sortednet_cli.nesting import NestedNetwork, ignore_layout_warning
from sortednet_cli.rules import make_rule
from sortednet_cli.spec import TrainSpec

INSIDE = "SORTEDNET_BENCHMARK_SIMULATED"
"""Set in the process that the simulated GPU was loaded into."""

NARROW = (
    "model.config.hidden_size=64",
    "model.config.num_attention_heads=4",
    "model.config.intermediate_size=64",
    "data.max_length=32",
)
NETWORKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "cPreResNet20": ("cifar10-resnet", ()),
    "MobileNetV2": ("cifar10-mobilenetv2", ()),
    "LLaMA": (
        "gsm8k-llama",
        (*NARROW, "model.config.num_key_value_heads=2", "data.vocab_size=300"),
    ),
    "BERT": ("sst2-bert", (*NARROW, *BERT_OF_4, "model.config.vocab_size=300")),
}
BATCH, PROMPT, TOKENS = 4, range(5, 17), (4, 16)
DRAFT_DEPTH, DRAFTS = 1, 4

Count = Callable[[Callable[[], object]], Counter[str]]
"""Runs work, and returns how often it launched each kernel."""


@dataclass(frozen=True)
class Made:
    """A network and what its passes take."""

    spec: TrainSpec
    inputs: InputFormat
    network: NestedNetwork
    part: RandomPart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit(_simulated())
    torch.set_num_threads(1)
    ignore_layout_warning()
    choose_device("cuda")
    with _counting() as count:
        result = {
            "simulated": INSIDE in os.environ,
            "networks": {name: measure(*NETWORKS[name], count) for name in options.only},
        }
    write("launches" + ("" if INSIDE in os.environ else device_suffix("cuda")), result)
    print(table(result), decoding_table(result), sep="\n\n")


def table(result: dict[str, Any]) -> str:
    """Launches, a row for each network and precision."""
    rows = [
        "| network | precision | update | casts of weights | recorded | scored pass |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, by_precision in result["networks"].items():
        for precision, found in by_precision.items():
            cells = [str(found[key]) for key in ("update", "casts", "recorded", "scored")]
            rows.append(f"| {name} | {precision} | {' | '.join(cells)} |")
    return "\n".join(rows)


def decoding_table(result: dict[str, Any]) -> str:
    """Launches of decoding, a row for each network and precision that decodes."""
    rows = [
        f"| network | precision | token | recorded | {DRAFTS} drafts and their check | recorded |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, by_precision in result["networks"].items():
        for precision, found in by_precision.items():
            if decoded := found.get("decoding"):
                cells = [f"{part[key]:.0f}" for key in ("token", "round") for part in decoded]
                rows.append(f"| {name} | {precision} | {' | '.join(cells)} |")
    return "\n".join(rows)


def measure(preset: str, overrides: tuple[str, ...], count: Count) -> dict[str, dict[str, Any]]:
    found = {}
    for precision in ("bf16", "fp32"):
        sets = (*overrides, *PLAIN, "train.rule=single", f"train.precision={precision}")
        spec, inputs, network = network_of(preset, [*sets, f"train.batch_size={BATCH}"], "cuda")
        made = Made(spec.train, inputs, network, random_part(inputs, 2, BATCH, network.device))
        counts: dict[str, Any] = {**updates(made, count), "scored": scored(made, count)}
        if "llama" in preset:
            module = made.network.standalone(made.network.space.largest)
            if precision == "bf16":
                for parameter in module.parameters():
                    parameter.data = parameter.data.to(torch.bfloat16)
            counts["decoding"] = [decoding(module, count, choice) for choice in (False, True)]
        found[precision] = counts
    return found


def updates(made: Made, count: Count) -> dict[str, int]:
    """Launches of an update of the largest sub-model, as it is and recorded."""
    casts = _Casts(made.network)

    def cast_by(update: Callable[[], object]) -> Counter[str]:
        with casts:
            update()
        return Counter(casts=casts.count)

    return {
        "update": _update(made, count, cuda_graphs=False).total(),
        "recorded": _update(made, count, cuda_graphs=True).total(),
        "casts": _update(made, cast_by, cuda_graphs=False).total(),
    }


def _update(made: Made, count: Count, *, cuda_graphs: bool) -> Counter[str]:
    """Launches of an update that comes after all that is done once."""
    changes = {"updates": 1 << 30, "epochs": None, "cuda_graphs": cuda_graphs}
    spec, network = made.spec.model_copy(update=changes), made.network
    rule, optimizer = make_rule(spec, network.space), RootOptimizer(network, spec)
    data: Any = Batches(made.part)
    trainer = Trainer(network, task_of(made.inputs), rule, data, optimizer, spec)
    running = trainer.updates(Position(), lambda: False)
    for _ in range(WARMUPS + 1):
        next(running)
    found = count(lambda: next(running))
    trainer.release()
    return found


def scored(made: Made, count: Count) -> int:
    """Launches of a pass that scores the largest sub-model: what a second batch adds."""
    network = made.network
    group, task = [network.space.largest], task_of(made.inputs)

    def score(batches: int) -> Callable[[], object]:
        part: Any = RandomPart(made.part.samples[:batches])
        return lambda: score_parts(network, group, {"test": part}, task, BATCH)

    score(1)()
    one, two = (count(score(batches)).total() for batches in (1, 2))
    return two - one


def decoding(module: nn.Module, count: Count, cuda_graphs: bool) -> dict[str, float]:
    """Launches of a token of plain greedy decoding, and of a round of drafts, after warming up."""
    decoder = Decoder(module, cuda_graphs=cuda_graphs)
    assert len(PROMPT) + TOKENS[1] <= decoder.context

    def decode(tokens: int) -> Callable[[], object]:
        return lambda: list(decoder.stream(PROMPT, Plain(), tokens))

    decode(TOKENS[1])()  # makes the cache and the recordings
    few, many = (count(decode(tokens)).total() for tokens in TOKENS)
    found = {"token": (many - few) / (TOKENS[1] - TOKENS[0])}
    with torch.inference_mode():
        stack, drafting = (
            Stack(module, len(PROMPT) + DRAFTS + 1, cuda_graphs),
            Speculative(DRAFT_DEPTH, Fixed(DRAFTS)),
        )
        stack.push(PROMPT)
        stack.advance(stack.depth)
        start, stats = stack.length, DecodingStats()

        def run() -> None:
            stack.truncate(start)
            drafting.round(stack, History([*PROMPT, 1], DRAFTS + 1), Greedy(), stats)

        for _ in range(WARMUPS + 1):
            run()
        found["round"] = count(run).total()
    assert not stats.recomputed
    return found


class _Casts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts casts of a network's weights."""

    def __init__(self, network: NestedNetwork) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0
        self._places = {w.untyped_storage().data_ptr() for w in network.weights.values()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default:
            self.count += args[0].untyped_storage().data_ptr() in self._places
        return func(*args, **kwargs or {})


@contextmanager
def _counting() -> Iterator[Count]:
    """What counts launches on this machine."""
    if INSIDE not in os.environ:
        yield _profiled
        return
    from tests.cuda.gpu import simulated_gpu

    with simulated_gpu() as gpu:

        def simulated(work: Callable[[], object]) -> Counter[str]:
            before = gpu.launches.copy()
            work()
            return gpu.launches - before

        yield simulated


def _profiled(work: Callable[[], object]) -> Counter[str]:
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        work()
        settle()
    # A graph is one launch, whatever it holds; copies and clearing of memory are none of kernels.
    names = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cudaGraphLaunch")
    return Counter(e.name for e in profiled.events() or () if e.name.startswith(names))


def _simulated() -> int:
    """Run this script in a process that has the tests' simulated GPU."""
    from tests.cuda.build import build_runtime

    with tempfile.TemporaryDirectory() as folder:
        variables = {"LD_PRELOAD": str(build_runtime(Path(folder))), INSIDE: "1"}
        line = [sys.executable, "-m", "benchmarks.speed.launches", *sys.argv[1:]]
        return subprocess.run(line, env={**os.environ, **variables}, check=False).returncode


if __name__ == "__main__":
    tell(main)
