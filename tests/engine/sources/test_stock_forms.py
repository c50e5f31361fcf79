"""What a stock library loads is the same function here: checkpoints in the forms that hubs hold."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sortednet_cli.engine.export.extract import extract
from sortednet_cli.engine.sources.stock import load_stock
from sortednet_cli.errors import RequestError
from sortednet_cli.families import root_of
from sortednet_cli.space import SubModel
from sortednet_cli.spec import ModelSpec

_SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 66,
}
_DECODER = {**_SIZES, "num_key_value_heads": 2, "pad_token_id": 0}
_WINDOW = {"use_sliding_window": True, "sliding_window": 8}
_GEMMA = {**_DECODER, "head_dim": 8, "sliding_window": 8, "sliding_window_pattern": 2}
_LABELS = {"num_labels": 3}
_DISTILBERT = {
    "vocab_size": 40,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 48,
    "max_position_embeddings": 66,
}
_GPT2 = {
    "vocab_size": 40,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 66,
    "pad_token_id": 0,
}
_MODERNBERT = {**_SIZES, "local_attention": 6, "pad_token_id": 0, "global_attn_every_n_layers": 2}
CLASSES: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": _DECODER,
    "Qwen2ForCausalLM": {**_DECODER, **_WINDOW, "max_window_layers": 1},
    "MistralForCausalLM": {**_DECODER, "sliding_window": 8},
    "Qwen3ForCausalLM": {**_DECODER, **_WINDOW, "max_window_layers": 1, "head_dim": 8},
    "SmolLM3ForCausalLM": {**_DECODER, **_WINDOW, "no_rope_layers": [1, 0]},
    "Olmo2ForCausalLM": _DECODER,
    "GraniteForCausalLM": {**_DECODER, "embedding_multiplier": 3.0, "logits_scaling": 4.0},
    "Gemma3ForCausalLM": {**_GEMMA, "final_logit_softcapping": 3.0},
    "Phi3ForCausalLM": {**_DECODER, "sliding_window": 8},
    "GPT2LMHeadModel": _GPT2,
    "GPT2ForSequenceClassification": {**_GPT2, **_LABELS},
    "ModernBertForSequenceClassification": {**_MODERNBERT, **_LABELS, "classifier_pooling": "mean"},
    "ModernBertForMaskedLM": _MODERNBERT,
    "LlamaForSequenceClassification": {**_DECODER, **_LABELS},
    "Gemma3TextForSequenceClassification": {**_GEMMA, **_LABELS},
    "BertForSequenceClassification": {**_SIZES, **_LABELS},
    "BertForMaskedLM": _SIZES,
    "RobertaForSequenceClassification": {**_SIZES, **_LABELS},
    "RobertaForMaskedLM": _SIZES,
    "DistilBertForSequenceClassification": {**_DISTILBERT, **_LABELS},
    "DistilBertForMaskedLM": _DISTILBERT,
    "ElectraForSequenceClassification": {**_SIZES, **_LABELS, "embedding_size": 16},
    "ElectraForMaskedLM": {**_SIZES, "embedding_size": 16},
    "ViTForImageClassification": {**_SIZES, **_LABELS, "image_size": 16, "patch_size": 4},
}
del CLASSES["ViTForImageClassification"]["vocab_size"]
del CLASSES["ViTForImageClassification"]["max_position_embeddings"]

HEADS = {
    **{
        name: ("model.embed_tokens.weight", "lm_head.weight")
        for name in CLASSES
        if name.endswith("ForCausalLM")
    },
    "GPT2LMHeadModel": ("transformer.wte.weight", "lm_head.weight"),
    "ModernBertForMaskedLM": ("model.embeddings.tok_embeddings.weight", "decoder.weight"),
    "BertForMaskedLM": (
        "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.weight",
    ),
    "RobertaForMaskedLM": (
        "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.weight",
    ),
    "DistilBertForMaskedLM": (
        "distilbert.embeddings.word_embeddings.weight",
        "vocab_projector.weight",
    ),
    "ElectraForMaskedLM": (
        "electra.embeddings.word_embeddings.weight",
        "generator_lm_head.weight",
    ),
}
"""Tensors that can be tied."""

OLD_NAMES = {
    "vit": {
        "layers.": "encoder.layer.",
        "attention.q_proj": "attention.attention.query",
        "attention.k_proj": "attention.attention.key",
        "attention.v_proj": "attention.attention.value",
        "attention.o_proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    },
}
"""What transformers 4 called parts of tensors' names."""

Tensors = dict[str, Tensor]
Config = dict[str, Any]


def _is_decoder(config: Config) -> bool:
    return "rope_parameters" in config and config["model_type"] != "modernbert"


def _prefix(config: Config) -> str:
    if "rope_parameters" in config:
        return "model."
    return {"gpt2": "transformer."}.get(config["model_type"], f"{config['model_type']}.")


def _as_saved(config: Config, tensors: Tensors) -> tuple[Config, Tensors]:
    return config, tensors


def _of_old(config: Config, tensors: Tensors) -> tuple[Config, Tensors]:
    """Written by transformers 4 or before: old entries and names, and tensors nobody reads now."""
    kind = config["model_type"]
    spare = {"cls.seq_relationship.weight": torch.ones(2, 32)}
    if kind in ("bert", "roberta", "electra", "distilbert"):
        spare[f"{_prefix(config)}embeddings.position_ids"] = torch.arange(66)[None]
    if kind in ("bert", "roberta", "vit"):
        spare[f"{_prefix(config)}pooler.dense.weight"] = torch.ones(32, 32)
    if _is_decoder(config):
        name = "model.layers.{}.self_attn.rotary_emb.inv_freq"
        spare = {name.format(i): torch.ones(4) for i in range(2)}
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.get("full_attention", rope)["rope_theta"]
        config["rope_scaling"] = {"type": "linear", "factor": 3.0}
        config.pop("layer_types", None)
    if kind == "modernbert":
        config.pop("rope_parameters"), config.pop("layer_types")
        config |= {"global_attn_every_n_layers": 2, "global_rope_theta": 900.0}
    if kind == "gpt2":
        spare = {f"h.{i}.attn.bias": torch.ones(1, 1, 66, 66) for i in range(2)}
        tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    if kind == "phi3":
        factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
        config["rope_scaling"] = {"type": "longrope", **factors}
        config["original_max_position_embeddings"] = 16
    if kind == "gemma3_text":  # transformers 4.50 was its first
        spare, config["rope_scaling"] = {}, {"rope_type": "linear", "factor": 3.0}
        config |= {"sliding_window_pattern": 2, "rope_local_base_freq": 500.0}
        config.pop("_sliding_window_pattern")
    config |= {"transformers_version": "4.43.1", "position_embedding_type": "absolute"}
    config["torch_dtype"] = config.pop("dtype")
    changes = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for new, old in (changes | OLD_NAMES.get(kind, {})).items():
        tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
    return config, {**spare, **tensors}


def _of_the_base(config: Config, tensors: Tensors) -> tuple[Config, Tensors]:
    """The base model's own names; a decoder then has no head but its embedding.

    Values are of one type, and are to be loaded in another.
    """
    if _is_decoder(config):
        config["tie_word_embeddings"] = True
        tensors.pop("lm_head.weight", None)
    config["dtype"] = "float16"
    prefix = _prefix(config)
    return config, {name.removeprefix(prefix): t.bfloat16() for name, t in tensors.items()}


def _tied_by_the_other_name(config: Config, tensors: Tensors) -> tuple[Config, Tensors]:
    embedding, head = HEADS[config["architectures"][0]]
    config["tie_word_embeddings"] = True
    tensors[head] = tensors.pop(embedding)
    return config, tensors


def _tied_but_different(config: Config, tensors: Tensors) -> tuple[Config, Tensors]:
    """The configuration ties what the files hold twice: transformers leaves the two apart."""
    embedding, head = HEADS[config["architectures"][0]]
    config["tie_word_embeddings"] = True
    tensors[head] = tensors[embedding].flip(0)
    return config, tensors


EVERY = {"as saved": _as_saved, "of old": _of_old, "of the base": _of_the_base}
OF_TIED = {
    "tied by the other name": _tied_by_the_other_name,
    "tied but different": _tied_but_different,
}
CASES = [(name, form) for form in EVERY for name in CLASSES]
CASES += [(name, form) for form in OF_TIED for name in HEADS]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives a checkpoint of a class as the installed version saves it; not to be changed."""
    folder = tmp_path_factory.mktemp("stock")

    @cache
    def made(name: str) -> Path:
        torch.manual_seed(0)
        kind = getattr(transformers, name)
        model = kind(kind.config_class(**CLASSES[name]))
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder / name)
        return folder / name

    return made


def _write(folder: Path, config: Config, tensors: Tensors, *, sharded: bool) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    if not sharded:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return
    places = {name: f"model-{i % 2 + 1:05}-of-00002.safetensors" for i, name in enumerate(tensors)}
    for file in set(places.values()):
        part = {name: tensor for name, tensor in tensors.items() if places[name] == file}
        save_file(part, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _purpose(name: str) -> str:
    return name.partition("For")[2] or "CausalLM"


def _loaded(name: str, folder: Path, **options: Any) -> Any:
    kind = getattr(transformers, f"AutoModelFor{_purpose(name)}")
    return kind.from_pretrained(folder, **options)


def _logits(module: Any) -> Tensor:
    """Logits of two texts, one of which is padded, or of two images."""
    random = torch.Generator().manual_seed(3)
    ids = torch.randint(2, 40, (2, 24), generator=random)
    ids[1, -5:] = 0
    images = torch.randn(2, 3, 16, 16, generator=random).to(module.dtype)
    inputs = {"input_ids": ids, "pixel_values": images}
    with torch.no_grad():
        found: Tensor = module.eval()(**{module.main_input_name: inputs[module.main_input_name]})[0]
    return found


@pytest.mark.parametrize(("name", "form"), CASES)
def test_a_checkpoint_gives_the_stock_logits(
    saved: Callable[[str], Path], tmp_path: Path, name: str, form: str
) -> None:
    """In the network, and from what is cut out at full size."""
    known, folder = saved(name), tmp_path / "stock"
    config, tensors = {**EVERY, **OF_TIED}[form](
        json.loads((known / "config.json").read_text()), load_file(known / "model.safetensors")
    )
    _write(folder, config, tensors, sharded=form == "of old")
    stock = _loaded(name, folder)
    source = load_stock(folder)
    extract(source, source.space.largest, tmp_path / "whole", check_outputs=False)
    whole = _loaded(name, tmp_path / "whole")
    assert whole.dtype == stock.dtype
    assert torch.equal(_logits(whole), _logits(stock))
    if form == "of the base":  # the network has the values as they are stored
        stock = _loaded(name, folder, dtype=torch.float32)
    assert torch.equal(_logits(source.network().at(source.space.largest)), _logits(stock))


LOADS = """
import sys; sys.modules["sortednet_cli"] = None
import json, pathlib, torch, transformers
from safetensors.torch import load_file
torch.set_num_threads(1)
for folder in sorted(pathlib.Path(".").iterdir()):
    kind = getattr(transformers, "AutoModelFor" + (folder.name.partition("For")[2] or "CausalLM"))
    model, told = kind.from_pretrained(folder, output_loading_info=True)
    check = load_file(folder / "check.safetensors")
    logits = check.pop("logits")
    ((name, inputs),) = check.items()
    with torch.no_grad():
        found = model.eval()(**{model.main_input_name: inputs}).logits
    if any(told.values()) or not torch.equal(found, logits):
        raise SystemExit(f"{folder.name}: {told}")
    config = model.config
    print(folder.name, config.hidden_size, config.num_hidden_layers)
"""


def test_what_is_cut_smaller_loads_whole_without_this_package(
    saved: Callable[[str], Path], tmp_path: Path
) -> None:
    half = SubModel.of({"width": 0.5, "depth": 1})
    for name in CLASSES:
        extract(load_stock(saved(name)), half, tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-c", LOADS], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:-1] == [f"{name} 16 1" for name in sorted(CLASSES)]


@pytest.mark.parametrize("name", CLASSES)
def test_a_width_that_breaks_heads_or_groups_is_refused(
    saved: Callable[[str], Path], name: str
) -> None:
    family = load_stock(saved(name)).family
    parts = 2 if "num_key_value_heads" in CLASSES[name] else 4
    legal = f"multiples of 1/{parts}: {'0.5' if parts == 2 else '0.25, 0.5, 0.75'},? "
    with pytest.raises(
        RequestError, match=rf"^width 0\.3 makes .* of .*; legal values are {legal}"
    ):
        family.shrink(SubModel.of({"width": 0.3}))


@pytest.mark.parametrize("name", CLASSES)
def test_weights_of_another_architecture_are_refused(
    saved: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    """As `model.pretrained` of another family, and under a configuration that is not theirs."""
    config = json.loads((saved(name) / "config.json").read_text())
    other = "bert" if _is_decoder(config) else "qwen3"
    task = load_stock(saved(name)).format.task
    facts = load_stock(saved(name)).format.facts()
    with pytest.raises(
        RequestError, match=f"{other} accepts {other}, not '{config['model_type']}'"
    ):
        root_of(ModelSpec(family=other), task, facts, config)
    theirs = "LlamaForCausalLM" if "Olmo2" in name else "Olmo2ForCausalLM"
    _write(
        tmp_path / "mixed", config, load_file(saved(theirs) / "model.safetensors"), sharded=False
    )
    with pytest.raises(RequestError, match=r"mixed does not fit .*: missing "):
        load_stock(tmp_path / "mixed")
