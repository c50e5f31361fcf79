"""Pico models: one small root and search space for each family, in the family's real form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sortednet_cli.data import ImageFormat, TextFormat
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


class Attention(nn.Module):
    """Attention whose one layer makes query, key and value; `ratio` query heads share a key."""

    def __init__(self, heads: int, ratio: int) -> None:
        super().__init__()
        self.heads, self.keys = heads, heads // ratio
        self.qkv = nn.Linear(4 * heads, 4 * (self.heads + 2 * self.keys))
        self.out = nn.Linear(4 * heads, 4 * heads)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(2, (-1, 4)).transpose(1, 2)
        query, key, value = qkv.split([self.heads, self.keys, self.keys], dim=1)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)
        result: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return result


class Gate(nn.Module):
    """A gated layer whose one weight, stored as [in, out], holds gates and values."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.both = nn.Parameter(torch.randn(hidden, 4 * hidden) / hidden)
        self.down = nn.Linear(2 * hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = (x @ self.both).chunk(2, dim=-1)
        result: Tensor = self.down(nn.functional.silu(gate) * value)
        return result


class FusedNet(nn.Module):
    """A small transformer of images, with fused tensors of both kinds in each block."""

    def __init__(self, heads: int, layers: int, ratio: int, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4 * heads, 4, 4)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm": nn.LayerNorm(4 * heads),
                    "attention": Attention(heads, ratio),
                    "gate": Gate(4 * heads),
                }
            )
            for _ in range(layers)
        )
        self.head = nn.Linear(4 * heads, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = x + block["attention"](block["norm"](x))
            x = x + block["gate"](x)
        result: Tensor = self.head(x.mean(1))
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
        size = self.image_size
        facts: dict[str, Any] = ImageFormat(
            3, size, NUM_CLASSES, tuple("abcde"), (0.5,) * 3, (0.25,) * 3, "pico"
        ).facts()
        if self.is_text:
            classes = tuple("abcde") if self.task == "classification" else ()
            facts = TextFormat(self.task, VOCAB, 16, classes, 0, 1, 2, "pico").facts()
        root = root_of(self.spec, self.task, facts, space=self.space)
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


def _timm(name: str, config: dict[str, Any], space: dict[str, Any]) -> Pico:
    return Pico({"family": "timm", "name": name, "config": config}, {"width": WIDTHS, **space}, 32)


def _fused(ratio: int) -> Pico:
    """A custom model with fused tensors; `ratio` query heads share a key and a value."""
    return Pico(
        {
            "family": "custom",
            "factory": "tests.pico:FusedNet",
            "depth_order": "prefix",
            "config": {"heads": 8, "layers": 3, "ratio": ratio, "num_classes": NUM_CLASSES},
            "axes": {"width": {"scales": ["heads"]}, "depth": {"sets": "layers"}},
            "blocks": {"paths": ["blocks"]},
            "fused": {
                "blocks.*.qkv": 3 if ratio == 1 else [ratio, 1, 1],
                "blocks.*.both": {"parts": 2, "dim": 1},
            },
        },
        {"width": WIDTHS, "depth": [1, 2, 3]},
        image_size=8,
    )


_ENCODER = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
_DISTILBERT = {
    "dim": 16,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 24,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "seq_classif_dropout": 0.0,
}
_MODERNBERT = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "local_attention": 4,
}
_GPT2 = {
    "n_embd": 16,
    "n_layer": 3,
    "n_head": 4,
    **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
}
_DECODER = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 24,
}
_LAYERS: list[int | float] = [1, 2, 3]


def _causal(family: str, **entries: Any) -> Pico:
    config = {**_DECODER, "head_dim": 4, **entries}
    space = {"width": WIDTHS, "depth": _LAYERS}
    return Pico({"family": family, "config": config}, space, task="causal-lm")


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
    "distilbert_classifier": Pico(
        {"family": "distilbert", "config": _DISTILBERT}, {"width": WIDTHS, "depth": _LAYERS}
    ),
    "distilbert_masked": Pico(
        {"family": "distilbert", "config": _DISTILBERT},
        {"ffn": WIDTHS, "depth": _LAYERS},
        task="masked-lm",
    ),
    "electra_classifier": Pico(
        {"family": "electra", "config": {**_ENCODER, "embedding_size": 8}},
        {"width": WIDTHS, "depth": _LAYERS},
    ),
    "electra_masked": Pico(
        {"family": "electra", "config": {**_ENCODER, "embedding_size": 8}},
        {"width": WIDTHS, "depth": _LAYERS},
        task="masked-lm",
    ),
    "electra_whole": Pico(
        {"family": "electra", "config": {**_ENCODER, "embedding_size": 16}},
        {"width": WIDTHS, "depth": _LAYERS},
        task="masked-lm",
    ),
    "modernbert_classifier": Pico(
        {"family": "modernbert", "config": {**_MODERNBERT, "classifier_pooling": "mean"}},
        {"width": WIDTHS, "depth": _LAYERS},
    ),
    "modernbert_masked": Pico(
        {"family": "modernbert", "config": _MODERNBERT},
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
    "llama_classifier": Pico(
        {"family": "llama", "config": _DECODER}, {"width": WIDTHS, "depth": _LAYERS}
    ),
    "qwen3": _causal("qwen3", use_sliding_window=True, sliding_window=4, max_window_layers=1),
    "smollm3": _causal("smollm3", no_rope_layers=[1, 0, 1]),
    "olmo2": _causal("olmo2"),
    "granite": _causal(
        "granite",
        embedding_multiplier=3.0,
        residual_multiplier=0.5,
        attention_multiplier=0.3,
        logits_scaling=4.0,
    ),
    "gemma3": _causal(
        "gemma3_text",
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        sliding_window=4,
        final_logit_softcapping=2.0,
    ),
    "phi3": _causal("phi3", sliding_window=4),
    "phi3_apart": Pico(
        {"family": "phi3", "config": {**_DECODER, "head_dim": 4}},
        {"heads": [0.5, 1.0], "ffn": [0.5, 1.0], "hidden": [0.5, 1.0], "depth": [1, 3]},
        task="causal-lm",
    ),
    "gpt2": Pico(
        {"family": "gpt2", "config": _GPT2}, {"width": WIDTHS, "depth": _LAYERS}, task="causal-lm"
    ),
    "gpt2_classifier": Pico({"family": "gpt2", "config": _GPT2}, {"ffn": WIDTHS, "depth": _LAYERS}),
    "gemma3_apart": Pico(
        {"family": "gemma3_text", "config": {**_DECODER, "hidden_size": 32, "head_dim": 4}},
        {"heads": [0.5, 1.0], "ffn": [0.5, 1.0], "hidden": [0.5, 1.0], "depth": [1, 3]},
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
    "timm_vit": _timm(
        "vit_tiny_patch16_224",
        {"patch_size": 4, "embed_dim": 32, "num_heads": 4, "depth": 3},
        {"width": WIDTHS, "depth": [1, 2, 3]},
    ),
    "timm_convnext": _timm(
        "convnext_atto", {"dims": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}, {"depth": [4, 5]}
    ),
    "timm_resnet": _timm(
        "resnet26",
        {"channels": [8, 8, 16, 16], "stem_width": 8, "layers": [1, 1, 2, 1]},
        {"depth": [4, 5]},
    ),
    "timm_regnet": _timm("regnetx_002", {"depth": 10, "w0": 32, "wa": 30.0, "wm": 2.2}, {}),
    "vit": Pico(
        {"family": "vit", "config": {**_ENCODER, "patch_size": 4}},
        {"width": WIDTHS, "depth": _LAYERS},
    ),
    "fused_equal": _fused(1),
    "fused_uneven": _fused(2),
}

PICOS = IMAGE_PICOS | TEXT_PICOS
STOCK_PICOS = {**TEXT_PICOS, "vit": PICOS["vit"]}
"""Those of the families of transformers."""
