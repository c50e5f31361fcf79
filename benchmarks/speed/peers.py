"""This project beside other ways of training nested networks: whole updates, each over its own.

    python -m benchmarks.speed.peers

An update is forward, loss, backward and optimizer, of one width, on one thread. In turn and on the
same batches:

- `ours`: an update of the engine that trains this sub-model.
- `stock`: the same update of the stock module of that size, in a loop that anyone would write.
- `slicing`: that loop over the same network with `weight[:out, :in]` inside the layers
  (benchmarks/speed/sliced_layers.py), checked to have the same outputs and gradients.
- For each library of benchmarks/speed/peer_libraries.py that is installed, its network of that
  width, and the network of its own that it cuts out of it.

All have fused optimizers, gradients set to None where they are their own, and one allocator.
Writes benchmarks/results/peers.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import (
    PLAIN,
    RandomPart,
    Work,
    in_turn,
    network_of,
    positive,
    random_part,
    ratio,
    write,
)
from benchmarks.speed.engine_cost import (
    SMALL_IMAGES,
    Batches,
    Case,
    native_step,
    plain_optimizer,
    plain_step,
)
from benchmarks.speed.peer_libraries import LIBRARIES, WIDTHS, SuperNetwork, check_extracted
from benchmarks.speed.sliced_layers import SlicingNetwork, check_equal
from sortednet_cli import allocator
from sortednet_cli.engine.sources.root import task_of
from sortednet_cli.engine.training.loop import Position, Trainer
from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.families import Inputs
from sortednet_cli.nesting import NestedNetwork, ignore_layout_warning
from sortednet_cli.rules import make_rule
from sortednet_cli.space import SubModel
from sortednet_cli.spec import TrainSpec
from sortednet_cli.tasks import Task

EQUAL = (
    "train.rule=single",
    "train.precision=fp32",
    "train.crossing_lr=1",
    "train.updates=1000000",
)
"""No peer has slower steps for some weights."""

SPACE = f"space.width={sorted(WIDTHS)}"
BERT = (SPACE, "model.config.num_hidden_layers=4", "space.depth=[4]")
LLAMA = (
    SPACE,
    "space.depth=[8]",
    "model.config.num_attention_heads=8",
    "model.config.num_key_value_heads=8",
    "model.config.tie_word_embeddings=false",
)
"""Eight heads, so that a quarter of them is a whole number."""

CASES = (
    Case("cPreResNet20", "cifar10-resnet", 128, (SPACE, "space.depth=[9]")),
    Case("MobileNetV2", "cifar10-mobilenetv2", 32, (SPACE, "space.depth=[17]")),
    Case("ResNet-50", "imagenet-resnet50", 16, SMALL_IMAGES),
    Case("BERT", "sst2-bert", 16, BERT),
    Case("BERT, 4 sequences", "sst2-bert", 4, BERT),
    Case("LLaMA", "gsm8k-llama", 4, LLAMA),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=[case.name for case in CASES])
    parser.add_argument("--repeats", type=positive, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    allocator.keep_freed_memory()
    ignore_layout_warning()
    networks, libraries, left_out = open_libraries()
    chosen = [case for case in CASES if options.only in (None, case.name)]
    cases = [measure(case, networks, options.repeats) for case in chosen]
    result = {"libraries": libraries, "left_out": left_out, "cases": cases}
    write("peers", result)
    print(table(result), libraries_table(result), sep="\n\n")


def open_libraries() -> tuple[
    dict[str, dict[str, SuperNetwork]], dict[str, dict[str, str]], dict[str, str]
]:
    """Build the network of each library that is installed, and name those that are not.

    Returns:
        The networks by the case they stand beside and by name, versions, and what is missing.
    """
    networks: dict[str, dict[str, SuperNetwork]] = {}
    found: dict[str, dict[str, str]] = {}
    left_out: dict[str, str] = {}
    for library in LIBRARIES:
        name = f"{library.packages[0]}: {library.name}"
        try:
            networks.setdefault(library.beside, {})[name] = library.make()
        except ImportError as error:
            left_out[name] = str(error)
            print(f"{name} is left out: {error} (see benchmarks/speed/peer_libraries.py)")
        else:
            found[name] = library.versions()
    return networks, found, left_out


def table(result: dict[str, Any]) -> str:
    """Slicing inside the layers, and ours, over the stock module and over each other."""
    rows = [
        "| network | batch | width | slicing / stock | ours / stock | ours / slicing |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rows += [
        f"| {case['name']} | {case['batch_size']} | {row['width']:g} | {row['slicing']:.2f}"
        f" | {row['ours']:.2f} | {row['ours_over_slicing']:.2f} |"
        for case in result["cases"]
        for row in case["rows"]
    ]
    return "\n".join(rows)


def libraries_table(result: dict[str, Any]) -> str:
    """Each library over its own native network, beside ours over ours."""
    rows = [
        "| library and network | width | its update / its native | our network | ours / stock |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows += [
        f"| {name} | {row['width']:g} | {value:.2f} | {case['name']} | {row['ours']:.2f} |"
        for case in result["cases"]
        for name in case["rows"][0]["libraries"]
        for row in case["rows"]
        for value in [row["libraries"][name]]
    ]
    return "\n".join(rows)


@dataclass(frozen=True)
class Setting:
    """A network and what an update of it takes."""

    network: NestedNetwork
    task: Task
    spec: TrainSpec
    part: RandomPart

    def step_of(self, run: Callable[[Any], None]) -> Work:
        """A piece of work that takes the next batch at each call."""
        batches = Batches(self.part).training_batches(0)
        return lambda: run(next(batches))


def measure(
    case: Case, networks: Mapping[str, Mapping[str, SuperNetwork]], repeats: int
) -> dict[str, Any]:
    overrides = [*case.overrides, *PLAIN, *EQUAL, f"train.batch_size={case.batch_size}"]
    spec, inputs, network = network_of(case.preset, overrides)
    part = random_part(inputs, 2, spec.train.batch_size, network.device)
    setting = Setting(network, task_of(inputs), spec.train, part)
    slicing = SlicingNetwork(network)
    check_equal(network, slicing, part.samples[0][0])
    optimizer = RootOptimizer(network, spec.train)
    slicing_optimizer = plain_optimizer(slicing.root.parameters(), spec.train)
    own = networks.get(case.name, {})
    rows = []
    for submodel in reversed(network.space.submodels):
        sliced = plain_step(slicing.at(submodel), slicing_optimizer, setting.task, spec.train)
        work = {
            "ours": engine_update(setting, submodel, optimizer),
            "stock": setting.step_of(native_step(network, submodel, setting.task, spec.train)),
            "slicing": setting.step_of(sliced),
        }
        for name, other in own.items():
            work |= library_updates(name, other, float(submodel.axes["width"]), setting)
        rows.append(row_of(submodel, in_turn(work, repeats), list(own)))
    about = {"name": case.name, "preset": case.preset, "overrides": overrides}
    return {**about, "batch_size": spec.train.batch_size, "rows": rows}


def row_of(
    submodel: SubModel, seconds: dict[str, list[float]], libraries: list[str]
) -> dict[str, Any]:
    return {
        "submodel": submodel.name,
        "width": submodel.axes["width"],
        "seconds": seconds,
        "ours": ratio(seconds, "ours", "stock"),
        "slicing": ratio(seconds, "slicing", "stock"),
        "ours_over_slicing": ratio(seconds, "ours", "slicing"),
        "libraries": {name: ratio(seconds, name, f"{name}, native") for name in libraries},
    }


def engine_update(setting: Setting, submodel: SubModel, optimizer: RootOptimizer) -> Work:
    """An update of the engine under the rule `single`."""
    network = setting.network
    spec = setting.spec.model_copy(update={"submodel": submodel.name})
    data: Any = Batches(setting.part)
    rule = make_rule(spec, network.space)
    trainer = Trainer(network, setting.task, rule, data, optimizer, spec)
    running = trainer.updates(Position(), lambda: False)
    return lambda: next(running)


def library_updates(
    name: str, other: SuperNetwork, width: float, setting: Setting
) -> dict[str, Work]:
    """An update of a library's network, and of the one that it cuts out."""
    bare: list[tuple[Inputs, Tensor]] = [
        (inputs["input_ids"] if isinstance(inputs, dict) else inputs, targets)
        for inputs, targets in setting.part.samples
    ]
    other.select(width)
    extracted = other.extract()
    check_extracted(other, extracted, bare[0][0])
    plain = replace(setting, part=RandomPart(bare))

    def step(module: nn.Module) -> Callable[[Any], None]:
        optimizer = plain_optimizer(module.parameters(), setting.spec)
        return plain_step(module, optimizer, setting.task, setting.spec)

    run = step(other.module)

    def selected(batch: Any) -> None:
        other.select(width)
        run(batch)

    return {name: plain.step_of(selected), f"{name}, native": plain.step_of(step(extracted))}


if __name__ == "__main__":
    main()
