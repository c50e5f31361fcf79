"""Scoring every depth of a width by one pass, against one by one, and against native modules.

    python -m benchmarks.speed.shared_prefixes

Each case scores all sub-models of a preset's network on random inputs three ways in turn:

- `shared`: what `eval --all` does.
- `one by one`: each sub-model on its own.
- `native`: contiguous stock modules of the same sizes run the same blocks and heads as often as
  they must be run (each width's whole depth, then for every other depth what only it has),
  written as plain loops over modules, without any of this project's passes.

All three read the same batches, and count the same metrics. Writes
benchmarks/results/shared_prefixes.json.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import Work, in_turn, network_of, positive, random_part, ratio, write
from sortednet_cli.engine.evaluation.score import score_parts
from sortednet_cli.engine.sources.root import task_of
from sortednet_cli.families import Family, Inputs, StagedFamily
from sortednet_cli.families.transformers.family import TransformerFamily
from sortednet_cli.machine.device import move_to
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.space import SubModel
from sortednet_cli.tasks import Targets, Task
from sortednet_cli.tasks.chunks import chunks


@dataclass(frozen=True)
class Case:
    """A preset's network, cut in some order, scored on some batches."""

    name: str
    preset: str
    overrides: tuple[str, ...]
    batch_size: int
    batches: int = 2


_SMALL_WIDTHS = "space.width=[0.25, 0.5, 0.75, 1.0]"
CASES = [
    Case("BERT base, 4 widths x 12 depths", "sst2-bert",
         (_SMALL_WIDTHS, f"space.depth={list(range(1, 13))}"), 8),
    Case("LLaMA of gsm8k-llama, 8 depths", "gsm8k-llama", (f"space.depth={list(range(1, 9))}",), 4),
    Case("cPreResNet20, 7 x 7, late-first", "cifar10-resnet",
         ("model.depth_order='late-first'",), 64),
    Case("cPreResNet20, 7 x 7, balanced", "cifar10-resnet",
         ("model.depth_order='balanced'",), 64),
    Case("MobileNetV2, 4 x 10, late-first", "cifar10-mobilenetv2",
         (_SMALL_WIDTHS, "model.depth_order='late-first'"), 64),
    Case("MobileNetV2, 4 x 10, balanced", "cifar10-mobilenetv2",
         (_SMALL_WIDTHS, "model.depth_order='balanced'"), 64),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=positive, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = {"cases": [measure(case, options.repeats) for case in CASES]}
    write("shared_prefixes", result)
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Times as ratios, a row for each case."""
    rows = [
        "| sub-models | shared / native | one by one / shared | by multiply-adds |",
        "| --- | --- | --- | --- |",
    ]
    for case in result["cases"]:
        rows.append(
            f"| {case['name']} | {case['of_native']:.2f} | {case['gain']:.2f}x"
            f" | {case['macs_gain']:.2f}x |"
        )
    return "\n".join(rows)


def measure(case: Case, repeats: int) -> dict[str, Any]:
    spec, inputs, network = network_of(case.preset, list(case.overrides))
    network.module.eval()
    task = task_of(inputs)
    at_once = case.batch_size
    part = random_part(inputs, case.batches, at_once, network.device)
    parts = {"test": part}
    groups = network.groups(network.space.submodels)
    natives = [
        native_group(network, group, batch, task, spec.train.in_channels_last)
        for group in groups
        for batch, _ in part.samples
    ]
    results: dict[str, Any] = {}

    def shared() -> None:
        results["shared"] = {
            submodel.name: metrics
            for group in groups
            for submodel, metrics in score_parts(network, group, parts, task, at_once).items()
        }

    def one_by_one() -> None:
        results["one by one"] = {
            submodel.name: score_parts(network, [submodel], parts, task, at_once)[submodel]
            for submodel in network.space.submodels
        }

    @torch.no_grad()
    def native() -> None:
        for run in natives:
            run()

    work = {"shared": shared, "one by one": one_by_one, "native": native}
    seconds = in_turn(work, repeats, warmup=1)
    assert results["shared"] == results["one by one"], f"{case.name}: results differ"
    return {
        "name": case.name,
        "preset": case.preset,
        "overrides": case.overrides,
        "submodels": len(network.space),
        "of_native": ratio(seconds, "shared", "native"),
        "gain": ratio(seconds, "one by one", "shared"),
        "macs_gain": flops(one_by_one) / flops(native),
        "seconds": seconds,
    }


def flops(work: Work) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def native_group(
    network: NestedNetwork, group: list[SubModel], inputs: Inputs, task: Task, channels_last: bool
) -> Work:
    """What one width costs on one batch: stock modules, and loops over them."""
    family = network.family
    with torch.no_grad():
        if isinstance(family, TransformerFamily):
            assert isinstance(inputs, dict)
            module = network.standalone(group[0])
            return native_depths(module, family, len(group), inputs, task)
        assert isinstance(inputs, Tensor)
        modules = {
            submodel: move_to(network.standalone(submodel), network.device, channels_last)
            for submodel in group
        }
        return native_stages(family, modules, inputs)


def native_depths(
    module: Any, family: TransformerFamily, depths: int, inputs: dict[str, Tensor], task: Task
) -> Work:
    """One run of the body, and one of the head for each depth, on as many positions."""
    body = getattr(module, family.architecture.base)
    states = body(**inputs, use_cache=False).last_hidden_state
    targets = torch.zeros(states.shape[:-1] if task.metric == "perplexity" else len(states))
    scored = task.scored(states, Targets(targets))

    def run() -> None:
        body(**inputs, use_cache=False)
        for _ in range(depths):
            for rows in chunks(len(scored), task.num_outputs):
                family.head.tail(module, scored[rows])

    return run


def native_stages(family: Family, modules: dict[SubModel, nn.Module], images: Tensor) -> Work:
    """The deepest as it is, and for every other depth the blocks that none before it ran."""
    assert isinstance(family, StagedFamily)
    known: dict[tuple[str, ...], Tensor] = {}
    jobs: list[tuple[list[nn.Module], Tensor, nn.Module]] = []
    for submodel, module in modules.items():
        names: tuple[str, ...] = ()
        state, start, todo = images, images, list[nn.Module]()
        for step in family.steps(submodel, module):
            names = (*names, step.name)
            state = step(state)
            if names in known:
                start = state
            else:
                known[names] = state
                todo += step.modules
        jobs.append((todo, start, module))

    def run() -> None:
        jobs[0][2](images)
        for todo, start, module in jobs[1:]:
            state = start
            for part in todo:
                state = part(state)
            family.tail(module, state)

    return run


if __name__ == "__main__":
    main()
