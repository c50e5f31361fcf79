"""What the nested network adds to training: steps against hand-written loops over plain modules.

    python -m benchmarks.speed.engine_cost

For each network, in turn and on the same batches in memory:

- `largest`: updates of the engine that train the largest sub-model alone, against a loop of
  forward, loss, backward and optimizer over the stock module.
- `sorted`: updates of the engine under the rule `sorted`, against the same loop over stock modules
  of the very sizes that each update sampled (every one with an optimizer of its own, over its own
  weights alone).
- `smallest`: as `largest`, with the smallest sub-model: where what does not shrink shows most.

Both sides use the same optimizer and precision. Writes benchmarks/results/engine_cost.json, or
with --device cuda a file with the device's name; there batches are the presets' own, and the rates
are those of one GPU.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.harness import (
    PLAIN,
    RandomPart,
    clock,
    device_suffix,
    network_of,
    positive,
    random_part,
    ratio,
    settle,
    write,
)
from sortednet_cli import allocator
from sortednet_cli.engine.sources.root import task_of
from sortednet_cli.engine.training.loop import Position, Trainer
from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.machine.device import move_to
from sortednet_cli.nesting import NestedNetwork, ignore_layout_warning
from sortednet_cli.rules import make_rule
from sortednet_cli.space import SubModel
from sortednet_cli.spec import TrainSpec
from sortednet_cli.tasks import Task


@dataclass(frozen=True)
class Case:
    """A preset's network, trained on random batches of its inputs.

    `batch_size` is for a CPU core; None is the preset's own.
    """

    name: str
    preset: str
    batch_size: int | None
    overrides: tuple[str, ...] = ()
    updates: int = 12


BERT_OF_4 = ("model.config.num_hidden_layers=4", "space.depth=[1, 2, 3, 4]")

WIDE_SPREAD = ("model.init=stock", f"space.width={[n / 20 for n in range(5, 21)]}")
"""Sixteen widths from 0.25 on: narrow tensors are where kernels lose."""

SMALL_IMAGES = ("data.image_size=64", "space.width=[0.25, 0.5, 1.0]", "space.depth=[16]")

CASES = [
    Case("cPreResNet20", "cifar10-resnet", 128),
    Case("MobileNetV2", "cifar10-mobilenetv2", 32, WIDE_SPREAD),
    Case("ResNet-50", "imagenet-resnet50", 16, SMALL_IMAGES, updates=8),
    Case("BERT", "sst2-bert", None, BERT_OF_4, updates=8),
    Case("BERT, 4 sequences", "sst2-bert", 4, BERT_OF_4),
    Case("LLaMA", "gsm8k-llama", 4, ("space.ffn=[0.5, 1.0]",)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=[case.name for case in CASES])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=positive, default=5, help="passes over the updates")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    allocator.keep_freed_memory()
    ignore_layout_warning()
    device, precision = options.device, options.precision
    chosen = [case for case in CASES if options.only in (None, case.name)]
    cases = [measure(case, options.repeats, device, precision) for case in chosen]
    result = {"precision": precision, "cases": cases}
    write("engine_cost" + device_suffix(device), result)
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Ratios of times, the engine over native loops."""
    rows = [
        "| network | batch | largest | smallest | updates of `sorted` | largest, units/s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rows += [
        f"| {case['name']} | {case['batch_size']} | {case['largest']:.3f} | {case['smallest']:.3f}"
        f" | {case['sorted']:.3f} | {case['largest_units_per_second']:,.0f} {case['unit']}s |"
        for case in result["cases"]
    ]
    return "\n".join(rows)


def measure(case: Case, repeats: int, device: str, precision: str) -> dict[str, Any]:
    found: dict[str, Any] = {"name": case.name, "preset": case.preset, "seconds": {}}
    updates = case.updates if device == "cpu" else 50
    for kind in ("largest", "smallest", "sorted"):
        rule = "sorted" if kind == "sorted" else "single"
        overrides = [
            *case.overrides,
            *PLAIN,
            f"train.rule={rule}",
            f"train.precision={precision}",
        ]
        if device == "cpu" and case.batch_size is not None:
            overrides.append(f"train.batch_size={case.batch_size}")
        spec, inputs, network = network_of(case.preset, overrides, device)
        train = spec.train
        if kind == "smallest":
            train = train.model_copy(update={"submodel": network.space.smallest.name})
        part = random_part(inputs, 4, train.batch_size, network.device)
        seconds, building = race(network, train, part, task_of(inputs), updates, repeats)
        found["seconds"][kind] = seconds
        found["build_ms"] = 1e3 * building
        found["batch_size"] = train.batch_size
        found[kind] = ratio(seconds, "engine", "native")
        units = updates * train.batch_size * inputs.num_units
        found["unit"] = inputs.unit
        found[f"{kind}_units_per_second"] = units / statistics.median(seconds["engine"])
    return found


@dataclass
class Batches:
    """As a data set gives batches of training, from memory and without end."""

    train: RandomPart

    def training_batches(self, start: int, **_: object) -> Iterator[Any]:
        return itertools.islice(itertools.cycle(self.train.samples), start, None)

    def batches_per_epoch(self, batch_size: int) -> int:
        return len(self.train.samples)


def race(
    network: NestedNetwork,
    spec: TrainSpec,
    part: RandomPart,
    task: Task,
    updates: int,
    repeats: int,
) -> tuple[dict[str, list[float]], float]:
    """Train the same sub-models on both sides, update by update in turn.

    Returns:
        Seconds of each pass over the updates, and those that making one sub-model's views takes:
        once in a training, and not counted in the passes.
    """
    endless = spec.model_copy(update={"updates": 1 << 30, "epochs": None})
    rule = make_rule(endless, network.space)
    data: Any = Batches(part)
    optimizer = RootOptimizer(network, endless)
    trainer = Trainer(network, task, rule, data, optimizer, endless)
    natives: dict[SubModel, Callable[[Any], None]] = {}
    batches = data.training_batches(0)
    start = clock()
    for submodel in network.space.submodels:
        network.plan(submodel)
        network.at(submodel)
    building = clock() - start
    seconds: dict[str, list[float]] = {"engine": [], "native": []}
    # The same sub-models in every pass, the first of which is not kept: kernels prepare themselves
    # for shapes that are new to them, which the side that comes first would pay for.
    for _ in range(1 + repeats):
        running = trainer.updates(Position(), lambda: False)
        total = dict.fromkeys(seconds, 0.0)
        for _ in range(updates):
            settle()
            start = clock()
            (submodel,) = next(running).submodels
            settle()
            total["engine"] += clock() - start
            if submodel not in natives:
                natives[submodel] = native_step(network, submodel, task, endless)
            batch = next(batches)
            start = clock()
            natives[submodel](batch)
            settle()
            total["native"] += clock() - start
        for kind, value in total.items():
            seconds[kind].append(value)
    kept = {kind: values[1:] for kind, values in seconds.items()}
    return kept, building / len(network.space)


def native_step(
    network: NestedNetwork, submodel: SubModel, task: Task, spec: TrainSpec
) -> Callable[[Any], None]:
    """A step of the loop that anyone would write for the stock module."""
    module: nn.Module = copy.deepcopy(network.standalone(submodel))
    move_to(module, network.device, spec.in_channels_last).train()
    optimizer = plain_optimizer(module.parameters(), spec)
    return plain_step(module, optimizer, task, spec, network.device.type)


def plain_optimizer(parameters: Iterable[nn.Parameter], spec: TrainSpec) -> torch.optim.Optimizer:
    """The fused optimizer of a spec, which decays tensors of two or more dimensions."""
    own = list(parameters)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in own if p.ndim >= 2], "weight_decay": spec.weight_decay},
        {"params": [p for p in own if p.ndim < 2], "weight_decay": 0.0},
    ]
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=spec.lr, fused=True)
    return torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum, nesterov=True, fused=True)


def plain_step(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    task: Task,
    spec: TrainSpec,
    device: str = "cpu",
) -> Callable[[Any], None]:
    """Forward, loss, backward and optimizer of one batch, with gradients set to None before."""
    clipped = [p for group in optimizer.param_groups for p in group["params"]]

    def step(batch: Any) -> None:
        inputs, targets = batch[0], batch[1].to(device)
        optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=spec.precision == "bf16"):
            outputs: Any = module(**inputs).logits if isinstance(inputs, dict) else module(inputs)
        loss = task.loss(outputs.float().flatten(0, -2), targets.flatten())
        torch.autograd.backward(loss)
        if spec.clip is not None:
            nn.utils.clip_grad_norm_(clipped, spec.clip)
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
