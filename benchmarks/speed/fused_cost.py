"""What fused tensors cost: passes of sub-models that join them, beside those of stock modules.

    python -m benchmarks.speed.fused_cost

Forward and backward of a sub-model over the root's weights, against the same module alone with
weights of its own. `joined` are the bytes of fused weights that a pass copies, as a share of all
weights that it reads. Writes benchmarks/results/fused_cost.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import in_turn, positive, ratio, tell, write
from sortednet_cli import allocator
from sortednet_cli.data import ImageFormat, TextFormat
from sortednet_cli.families import Family, Inputs, open_family, root_of
from sortednet_cli.nesting import NestedNetwork, ignore_layout_warning, init_network
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import ModelSpec

IMAGES = ImageFormat(3, 32, 10, tuple("0123456789"), (0.5,) * 3, (0.25,) * 3, "random")
TEXTS = TextFormat("causal-lm", 1024, 64, (), 0, 1, 2, "random")


@dataclass(frozen=True)
class Case:
    name: str
    model: dict[str, Any]
    batch: int
    widths: tuple[float, ...]

    def family(self) -> Family:
        spec = ModelSpec.model_validate(self.model)
        facts, task = (IMAGES.facts(), "classification")
        if spec.family != "timm":
            facts, task = (TEXTS.facts(), "causal-lm")
        return open_family(root_of(spec, task, facts))

    def inputs(self) -> Inputs:
        generator = torch.Generator().manual_seed(0)
        form = IMAGES if self.model["family"] == "timm" else TEXTS
        return form.random_inputs(self.batch, generator)


VIT = {
    "family": "timm",
    "name": "vit_tiny_patch16_224",
    "config": {"patch_size": 4, "num_heads": 12},
}
PHI = {
    "family": "phi3",
    "config": {
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
    },
}
CASES = (
    Case("ViT-tiny (timm), 12 heads", VIT, 64, (1.0, 0.5, 0.25)),
    Case("Phi-3 in small, 8 heads on 4", PHI, 8, (1.0, 0.5, 0.25)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=positive, default=11)
    options = parser.parse_args()
    torch.set_num_threads(1)
    allocator.keep_freed_memory()
    ignore_layout_warning()
    rows = [row for case in CASES for row in measure(case, options.repeats)]
    result = {"rows": rows}
    write("fused_cost", result)
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Ratios of times, a row for each width."""
    rows = [
        "| network | batch | width | joined | ours / alone |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows += [
        f"| {row['network']} | {row['batch']} | {row['width']:g} | {100 * row['joined']:.0f}%"
        f" | {row['ratio']:.3f} |"
        for row in result["rows"]
    ]
    return "\n".join(rows)


def measure(case: Case, repeats: int) -> list[dict[str, Any]]:
    family, inputs = case.family(), case.inputs()
    space = SearchSpace((("width", tuple(sorted(case.widths))),))
    network = NestedNetwork(family, space, init_network(family, 0))
    network.enable_training(in_place=False)
    rows = []
    for width in case.widths:
        submodel = SubModel.of({"width": width})
        module, alone = network.at(submodel).train(), network.standalone(submodel).train()
        check(family, module, alone, inputs)
        seconds = in_turn(
            {
                "ours": ours(network, submodel, inputs),
                "alone": lambda alone=alone: plain(family, alone, inputs),  # type: ignore[misc]
            },
            repeats,
        )
        slices = network.plan(submodel).slices.values()
        sizes = [(bool(piece.fused), torch.Size(piece.shape).numel()) for piece in slices]
        joined = sum(size for fused, size in sizes if fused) / sum(size for _, size in sizes)
        rows.append(
            {
                "network": case.name,
                "batch": case.batch,
                "width": width,
                "joined": joined,
                "seconds": seconds,
                "ratio": ratio(seconds, "ours", "alone"),
            }
        )
    return rows


def ours(network: NestedNetwork, submodel: SubModel, inputs: Inputs) -> Callable[[], None]:
    def run() -> None:
        network.zero_gradients()
        with network.collecting([submodel]):
            loss(network.family.forward(network.at(submodel), inputs)).backward()  # type: ignore[no-untyped-call]

    return run


def plain(family: Family, module: nn.Module, inputs: Inputs) -> None:
    module.zero_grad(set_to_none=True)
    loss(family.forward(module, inputs)).backward()  # type: ignore[no-untyped-call]


def loss(logits: Tensor) -> Tensor:
    return logits.float().square().mean()


@torch.no_grad()
def check(family: Family, module: nn.Module, alone: nn.Module, inputs: Inputs) -> None:
    """Assert that both compute the same."""
    torch.testing.assert_close(family.forward(module, inputs), family.forward(alone, inputs))


if __name__ == "__main__":
    tell(main)
