"""Pico models: one small root and search space for each family, in the family's real form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sortednet_cli.data import TextFormat
from sortednet_cli.families import Family, Inputs, open_family, root_of
from sortednet_cli.nesting import NestedNetwork, init_network
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import ModelSpec
from sortednet_cli.spec.families import family_facts

NUM_CLASSES = 5
VOCAB = 40


class FlatNet(nn.Module):
    """A custom model whose blocks and tail share one Sequential, so that a cut shifts names."""

    def __init__(self, hidden: int, layers: int, num_classes: int) -> None:
        super().__init__()
        blocks = [nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU()) for _ in range(layers)]
        tail = [nn.LayerNorm(hidden), nn.Linear(hidden, num_classes)]
        stem = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, hidden))
        self.net = nn.Sequential(stem, *blocks, *tail)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.net(x)
        return result


@dataclass(frozen=True)
class Pico:
    model: dict[str, Any]
    space: dict[str, list[int | float]]
    image_size: int = 16
    task: str = "classification"

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec.model_validate(self.model)

    @property
    def is_text(self) -> bool:
        return family_facts(self.spec.family).inputs == "text"

    def family(self) -> Family:
        facts = {"channels": 3, "num_classes": NUM_CLASSES}
        if self.is_text:
            classes = tuple("abcde") if self.task == "classification" else ()
            facts = TextFormat(self.task, VOCAB, 16, classes, 0, 1, 2, "pico").facts()
        root = root_of(self.spec, self.task, facts)
        return open_family(root, [self.model.get("factory", "")])

    @property
    def search_space(self) -> SearchSpace:
        return SearchSpace.of(self.space)

    def network(
        self, seed: int = 0, *, training: bool = True, in_place: bool = True
    ) -> NestedNetwork:
        family = self.family()
        network = NestedNetwork(family, self.search_space, init_network(family, seed))
        if training:
            network.enable_training(in_place=in_place)
        return network

    def inputs(self, count: int = 4) -> Inputs:
        if not self.is_text:
            return self.images(count)
        generator = torch.Generator().manual_seed(1)
        return {"input_ids": torch.randint(3, VOCAB, (count, 12), generator=generator)}

    def run(self, module: nn.Module, count: int = 4) -> Tensor:
        """Logits of the module's own forward pass."""
        return self.family().forward(module, self.inputs(count))

    def images(self, count: int = 4) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        return torch.randn(count, 3, self.image_size, self.image_size, generator=generator)

    def spread(self) -> list[SubModel]:
        """Corners and middle of the search space."""
        space = self.search_space
        picked = [space.smallest, space.submodels[len(space) // 2], space.submodels[-2]]
        return list(dict.fromkeys([*picked, space.largest]))


WIDTHS: list[int | float] = [0.5, 0.75, 1.0]

_ENCODER = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
_DECODER = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 24,
}
_LAYERS: list[int | float] = [1, 2, 3]

TEXT_PICOS = {
    "bert_classifier": Pico(
        {"family": "bert", "config": _ENCODER}, {"width": WIDTHS, "depth": _LAYERS}
    ),
    "bert_masked": Pico(
        {"family": "bert", "config": _ENCODER},
        {"ffn": WIDTHS, "depth": _LAYERS},
        task="masked-lm",
    ),
    "roberta_classifier": Pico(
        {"family": "roberta", "config": _ENCODER}, {"width": WIDTHS, "depth": _LAYERS}
    ),
    "roberta_masked": Pico(
        {"family": "roberta", "config": _ENCODER},
        {"width": WIDTHS, "depth": _LAYERS},
        task="masked-lm",
    ),
    "llama": Pico(
        {"family": "llama", "config": {**_DECODER, "tie_word_embeddings": True}},
        {"width": WIDTHS, "depth": _LAYERS},
        task="causal-lm",
    ),
    "llama_apart": Pico(
        {"family": "llama", "config": _DECODER},
        {"heads": [0.5, 1.0], "ffn": [0.5, 1.0], "hidden": [0.5, 1.0], "depth": [1, 3]},
        task="causal-lm",
    ),
    "qwen2": Pico(
        {"family": "llama", "config": {**_DECODER, "model_type": "qwen2"}},
        {"width": WIDTHS, "depth": _LAYERS},
        task="answers",
    ),
    "mistral": Pico(
        {"family": "llama", "config": {**_DECODER, "model_type": "mistral"}},
        {"width": WIDTHS, "depth": _LAYERS},
        task="causal-lm",
    ),
}

IMAGE_PICOS = {
    "preact_basic": Pico(
        {
            "family": "preact_resnet",
            "depth_order": "balanced",
            "config": {"channels": [4, 8], "blocks": [2, 3], "strides": [1, 2]},
        },
        {"width": WIDTHS, "depth": [2, 3, 4, 5]},
    ),
    "preact_bottleneck": Pico(
        {
            "family": "preact_resnet",
            "depth_order": "late-first",
            "config": {
                "channels": [4, 8],
                "blocks": [2, 2],
                "strides": [1, 2],
                "block": "bottleneck",
            },
        },
        {"width": WIDTHS, "depth": [2, 3, 4]},
    ),
    "preact_prefix_instance": Pico(
        {
            "family": "preact_resnet",
            "depth_order": "prefix",
            "config": {"channels": [4, 8], "blocks": [2, 2], "strides": [1, 2], "norm": "instance"},
        },
        {"width": WIDTHS, "depth": [1, 2, 3, 4]},
    ),
    "preact_group": Pico(
        {
            "family": "preact_resnet",
            "depth_order": "late-first",
            "config": {"channels": [8, 16], "blocks": [2, 2], "strides": [1, 2], "norm": "group"},
        },
        {"width": [0.5, 1.0], "depth": [2, 3, 4]},
    ),
    "mobilenet_v2": Pico(
        {
            "family": "mobilenet_v2",
            "depth_order": "balanced",
            "config": {
                "inverted_residual_setting": [[1, 16, 1, 1], [2, 24, 3, 2], [2, 48, 2, 1]],
                "dropout": 0.0,
            },
        },
        {"width": WIDTHS, "depth": [3, 4, 5, 6]},
    ),
    "resnet50": Pico(
        {"family": "resnet50", "config": {"layers": [1, 2, 2, 1], "width_per_group": 8}},
        {"width": WIDTHS, "depth": [4, 5, 6]},
        image_size=32,
    ),
    "custom": Pico(
        {
            "family": "custom",
            "factory": "tests.pico:FlatNet",
            "depth_order": "prefix",
            "config": {"hidden": 8, "layers": 4, "num_classes": NUM_CLASSES},
            "axes": {"width": {"scales": ["hidden"]}, "depth": {"sets": "layers"}},
            "blocks": {"paths": ["net"], "before": 1, "after": 2},
        },
        {"width": WIDTHS, "depth": [1, 2, 3, 4]},
        image_size=8,
    ),
}

PICOS = IMAGE_PICOS | TEXT_PICOS
