"""The plan of a training against the training: memory of a process, and bytes that it sends.

    python -m benchmarks.speed.plan_memory

Memory: what `info --plan` predicts (weights, gradient, optimizer state, a micro-batch) against

- `live`: bytes of the tensors that are alive at once in the same training, counted by operation;
- `resident`: the peak of a fresh process's resident memory above what it held once imports were
  done and kernels loaded, under an allocator that returns every large tensor at once.

Wire: two processes under torchrun, join_job by gloo, train some updates. `collectives` is what is
handed to them, `sent` what the first process wrote in that time (`wchar` of proc_pid_io(5): what
it gave to write calls, its sockets' among them; its file system is not used meanwhile).

Samples are random, of the task's full length. Writes benchmarks/results/plan_memory.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.harness import network_of, positive, random_part, write
from benchmarks.speed.engine_cost import Batches
from benchmarks.speed.soft_cost import ALLOCATORS, memory_mib
from sortednet_cli.distributed.processes import SINGLE_PROCESS, Processes, join_job
from sortednet_cli.engine.planning.resources import plan_resources
from sortednet_cli.engine.sources.root import task_of
from sortednet_cli.engine.training.loop import Position, Trainer
from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.machine.live_bytes import LiveBytes
from sortednet_cli.nesting import ignore_layout_warning
from sortednet_cli.rules import make_rule
from sortednet_cli.spec import load_preset

MIB = 1 << 20
PROCESSES = 2


@dataclass(frozen=True)
class Case:
    """A preset's network, under a rule that draws its largest micro-batch every time."""

    name: str
    preset: str
    overrides: tuple[str, ...]


CASES = [
    Case("cPreResNet20, batch of 128", "cifar10-cpreresnet20",
         ("train.rule=single", "train.smallest_first=0", "train.precision=fp32")),
    Case("LLaMA of gsm8k-llama, 8 exits, batch of 4", "gsm8k-llama",
         ("train.rule=sum", "train.batch_size=4", "train.precision=fp32")),
    Case("the same in bfloat16", "gsm8k-llama",
         ("train.rule=sum", "train.batch_size=4", "train.precision=bf16")),
    Case("BERT base of 4 layers, batch of 8", "sst2-bert",
         ("train.rule=single", "train.distill=false", "train.batch_size=8",
          "train.precision=fp32", "model.config.num_hidden_layers=4", "space.depth=[2, 4]")),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=positive, default=2)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ignore_layout_warning()
    if options.worker is not None:
        return work(CASES[options.worker], options.updates, options.out)
    result = {"cases": [measure(number, options.updates) for number in range(len(CASES))]}
    write("plan_memory", result)
    print(table(result))
    return None


def table(result: dict[str, Any]) -> str:
    """What was measured over what the plan says."""
    rows = [
        "| training | planned | live / planned | resident / planned | sent / planned |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows += [
        f"| {case['name']} | {case['planned'] / 1e6:.1f} MB"
        f" | {case['live'] / case['planned']:.3f} | {case['resident'] / case['planned']:.3f}"
        f" | {case['sent'] / case['planned_wire']:.3f} |"
        for case in result["cases"]
    ]
    return "\n".join(rows)


def measure(number: int, updates: int) -> dict[str, Any]:
    case = CASES[number]
    spec = load_preset(case.preset, list(case.overrides))
    plan = plan_resources(spec, PROCESSES)
    fresh = multiprocessing.get_context("spawn")
    with mock.patch.dict("os.environ", ALLOCATORS["live"]), fresh.Pool(1) as pool:
        resident = pool.apply(resident_bytes, (case, updates))
    found = {
        "planned": plan.memory["replicated"].total,
        "memory": asdict(plan.memory["replicated"]),
        "live": live_bytes(case, updates),
        "resident": resident,
        "planned_wire": plan.wire["replicated"].total,
        **talk(number, updates),
    }
    print(case.name, found, file=sys.stderr)
    return {"name": case.name, "preset": case.preset, "overrides": case.overrides, **found}


def trainer(case: Case, updates: int, processes: Processes = SINGLE_PROCESS) -> Trainer:
    """A trainer of random samples, each batch held once."""
    overrides = [*case.overrides, f"train.updates={updates}"]
    spec, inputs, network = network_of(case.preset, overrides)
    part = random_part(inputs, 1, spec.train.batch_size, network.device)
    data: Any = Batches(part)
    rule, task = make_rule(spec.train, network.space), task_of(inputs)
    optimizer = RootOptimizer(network, spec.train)
    return Trainer(network, task, rule, data, optimizer, spec.train, processes)


def train(made: Trainer) -> None:
    for _ in made.updates(Position(), lambda: False):
        pass


def live_bytes(case: Case, updates: int) -> int:
    """Most bytes of tensors alive at once: all but the batches and a sub-model's own buffers."""
    made = trainer(case, updates)
    network = made.network
    for submodel in network.space.submodels:
        network.at(submodel)
    before = [*network.parameters.values(), *network.gradient_buffers]
    with LiveBytes(before) as live:
        train(made)
    return int(live.peak) + sum(tensor.nbytes for tensor in before)


def resident_bytes(case: Case, updates: int) -> int:
    torch.set_num_threads(1)
    ignore_layout_warning()
    # Kernels and transformers' classes load on first use: a pico training brings them in.
    tiny = Case(case.name, case.preset, (*case.overrides, "train.batch_size=2"))
    train(trainer(tiny, 1))
    before = memory_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    train(trainer(case, updates))
    return round((memory_mib("VmHWM") - before) * MIB)


def talk(number: int, updates: int) -> dict[str, Any]:
    """Bytes of one update as two processes exchange it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        words = [
            f"--nproc-per-node={PROCESSES}",
            "-m",
            "benchmarks.speed.plan_memory",
            f"--worker={number}",
        ]
        subprocess.run(
            [*launcher, *words, f"--updates={updates}", f"--out={out}"],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def work(case: Case, updates: int, out: Path) -> None:
    """One of the processes; the first tells what it exchanged for an update."""
    with join_job(torch.device("cpu")) as processes:
        made = trainer(case, updates, processes)
        handed = 0
        stock = dist.all_reduce

        def counted(tensor: Tensor, *words: Any, **named: Any) -> Any:
            nonlocal handed
            handed += tensor.nbytes
            return stock(tensor, *words, **named)

        with mock.patch.object(dist, "all_reduce", counted):
            before = written_bytes()
            train(made)
            sent = written_bytes() - before
        if processes.leads:
            found = {"collectives": handed / updates, "sent": sent / updates}
            out.write_text(json.dumps(found), encoding="utf-8")


def written_bytes() -> int:
    lines = Path("/proc/self/io").read_text(encoding="utf-8").splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


if __name__ == "__main__":
    main()
