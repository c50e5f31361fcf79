"""Configurations of stock checkpoints: old entries keep their meaning, nothing goes unsaid."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from sortednet_cli.engine.export.extract import extract
from sortednet_cli.engine.generation import Decoder, Plain
from sortednet_cli.engine.loaded import load_artifact
from sortednet_cli.engine.sources.stock import load_stock
from sortednet_cli.errors import RequestError
from sortednet_cli.families.transformers.stock_configs import end_tokens, of_depth, with_end
from sortednet_cli.nesting import init_network
from sortednet_cli.space import SubModel

LLAMA = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}


def _saved(folder: Path, model: Any, **entries: Any) -> Path:
    """Save a model, then write entries into its config.json: None takes one out."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    file = folder / "config.json"
    stored = {**json.loads(file.read_text()), **entries}
    file.write_text(json.dumps({key: v for key, v in stored.items() if v is not None}))
    return folder


def _llama(folder: Path, **entries: Any) -> Path:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**LLAMA)
    return _saved(folder, transformers.LlamaForCausalLM(config), **entries)


def _classifier(folder: Path, **entries: Any) -> Path:
    config = transformers.BertConfig(**LLAMA, num_labels=11)
    return _saved(folder, transformers.BertForSequenceClassification(config), **entries)


ROPES: dict[str, dict[str, Any]] = {
    "theta alone": {},
    "linear": {"rope_scaling": {"type": "linear", "factor": 2.0}},
    "dynamic": {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
    "yarn": {
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
    },
    "llama3": {
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        }
    },
    "longrope": {
        "original_max_position_embeddings": 16,
        "rope_scaling": {
            "type": "longrope",
            "factor": 4.0,
            "short_factor": [1.0, 1.1, 1.2, 1.3],
            "long_factor": [2.0, 3.0, 4.0, 5.0],
        },
    },
}
"""Entries at the top of a config.json of transformers 4."""


@pytest.mark.parametrize("kind", ROPES)
def test_rope_of_version_4_is_kept(tmp_path: Path, kind: str) -> None:
    folder = _llama(tmp_path / "stock", rope_parameters=None, rope_theta=500.0, **ROPES[kind])
    source = load_stock(folder)
    extract(source, source.space.largest, tmp_path / "cut")
    for length in (12, 60):  # within what it was made for at first, and beyond
        ids = torch.randint(40, (2, length), generator=torch.Generator().manual_seed(1))
        logits = [
            transformers.AutoModelForCausalLM.from_pretrained(path).eval()(input_ids=ids).logits
            for path in (folder, tmp_path / "cut")
        ]
        assert torch.equal(*logits)


@pytest.mark.parametrize("length", [4, 14, 20])
def test_longrope_turns_where_transformers_lets_it(tmp_path: Path, length: int) -> None:
    """Frequencies change in the middle of a text, but not for what was rotated before."""
    rope = ROPES["longrope"]
    folder = _llama(tmp_path / "stock", rope_parameters=None, rope_theta=500.0, **rope)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.randint(3, 40, (1, length), generator=torch.Generator().manual_seed(5))
    wanted = model.generate(ids, max_new_tokens=30, do_sample=False, eos_token_id=None)
    decoder = Decoder(model.eval())
    assert list(decoder.stream(ids[0].tolist(), Plain(), 30)) == wanted[0, length:].tolist()


def test_entries_that_the_class_has_not_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = _llama(tmp_path / "stock", gradient_checkpointing=True, colour="red")
    with caplog.at_level(logging.INFO):
        load_stock(folder)
    assert caplog.messages == [
        f"{folder}: config.json: left out entries that llama does not have:"
        " colour, gradient_checkpointing"
    ]


@pytest.mark.parametrize("key", ["quantization_config", "per_layer_config"])
def test_entries_that_change_every_tensor_are_refused(tmp_path: Path, key: str) -> None:
    folder = _llama(tmp_path / "stock", **{key: {"0": {"hidden_size": 8}}})
    with pytest.raises(RequestError, match=rf"config\.json: a model with {key} cannot be cut"):
        load_stock(folder)


def test_classes_keep_their_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = {str(number): f"class {number}" for number in range(11)}
    by_text = dict(sorted(names.items()))
    folder = _classifier(tmp_path / "stock", id2label=by_text, label2id=None)
    source = load_stock(folder)
    extract(source, SubModel.of({"width": 0.5, "depth": 1}), tmp_path / "cut")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "cut")
    assert config.id2label == {number: f"class {number}" for number in range(11)}
    assert config.label2id == {name: number for number, name in config.id2label.items()}
    assert load_artifact(tmp_path / "cut").format.classes == tuple(names.values())
    with caplog.at_level(logging.INFO):
        load_stock(_classifier(tmp_path / "other", id2label=names, label2id={"class 0": 1}))
    assert "label2id differs from id2label" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"3": None}, "none of 10 classes is number 3"),
        ({"3": None, "11": "x"}, "none of 11 classes is number 3"),
        ({"3": "class 7"}, "classes 3 and 7 have the same name 'class 7'"),
        ({"3": None, "three": "x"}, "id2label must map class numbers to names"),
        ({"3": None, "07": "x"}, "none of 11 classes is number 3"),
    ],
)
def test_classes_that_are_in_doubt_are_refused(
    tmp_path: Path, change: dict[str, str | None], message: str
) -> None:
    named = {**{str(number): f"class {number}" for number in range(11)}, **change}
    kept = {number: name for number, name in named.items() if name is not None}
    with pytest.raises(RequestError, match=message):
        load_stock(_classifier(tmp_path / "stock", id2label=kept))


def test_a_count_of_classes_is_enough(tmp_path: Path) -> None:
    folder = _classifier(tmp_path / "stock", id2label=None, label2id=None, num_labels=11)
    assert load_stock(folder).format.classes == tuple(f"LABEL_{i}" for i in range(11))


# ---- tensors


def _with(folder: Path, change: Any) -> Path:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})
    return folder


def test_what_is_left_out_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spare = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(2)}
    folder = _with(
        _llama(tmp_path / "stock"),
        lambda own: {**own, **spare, "score.weight": own["lm_head.weight"].clone()},
    )
    with caplog.at_level(logging.INFO):
        load_stock(folder)
    (told,) = caplog.messages
    assert told.startswith("left out 3 tensors that LlamaForCausalLM does not use: model.layers.0")
    assert "score.weight" in told


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.layers.2.mlp.up_proj.weight", "unknown model.layers.2.mlp.up_proj.weight"),
        ("layers.2.mlp.up_proj.weight", "unknown layers.2.mlp.up_proj.weight"),
        ("model.layers.0.self_attn.q_proj.bias", "unknown model.layers.0.self_attn.q_proj.bias"),
        ("norm.weight", "holds model.norm.weight twice"),
    ],
)
def test_tensors_of_the_model_are_never_left_out(tmp_path: Path, name: str, message: str) -> None:
    folder = _with(_llama(tmp_path / "stock"), lambda own: {**own, name: torch.ones(32)})
    with pytest.raises(RequestError, match=message):
        load_stock(folder)


@pytest.mark.parametrize("change", ["absent", "of another shape"])
def test_a_head_is_not_made_up(tmp_path: Path, change: str) -> None:
    def headless(own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        head = own.pop("lm_head.weight")
        return own if change == "absent" else {**own, "lm_head.weight": head[:39].clone()}

    folder = _with(_llama(tmp_path / "stock"), headless)
    with pytest.raises(
        RequestError, match=r"does not fit .*: missing or misshapen lm_head\.weight"
    ):
        load_stock(folder)


def test_training_starts_from_every_form_of_a_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    family = load_stock(_classifier(tmp_path / "stock")).family
    given = init_network(family, 1).state_dict()
    stored = {
        name.removeprefix("bert.").replace("LayerNorm.weight", "LayerNorm.gamma"): tensor
        for name, tensor in given.items()
    }
    stored |= {"classifier.weight": torch.ones(3, 32), "cls.predictions.bias": torch.ones(40)}
    module = init_network(family, 0)
    with caplog.at_level(logging.INFO):
        family.load_pretrained(module, stored, "here")
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, given[name]) == (name != "classifier.weight"), name
    assert caplog.messages == [
        "left out 1 tensor that BertForSequenceClassification does not use: cls.predictions.bias",
        "fresh weights, not in the checkpoint: classifier.weight [3, 32] for [11, 32]",
    ]


def test_training_does_not_choose_between_tied_tensors(tmp_path: Path) -> None:
    folder = _llama(tmp_path / "stock", tie_word_embeddings=True)
    family = load_stock(
        _with(folder, lambda own: {n: t for n, t in own.items() if "head" not in n})
    ).family
    stored = dict(init_network(family, 1).state_dict())
    stored["lm_head.weight"] = stored["lm_head.weight"] + 1
    with pytest.raises(RequestError, match=r"different values for .* which its configuration ties"):
        family.load_pretrained(init_network(family, 0), stored, "here")


# ---- generation


def test_layers_that_a_cut_takes_away_are_not_named(caplog: pytest.LogCaptureFixture) -> None:
    known = {"eos_token_id": 2, "assistant_early_exit": 4, "dola_layers": [1, 6]}
    assert of_depth(known, 6) == known
    with caplog.at_level(logging.INFO):
        assert of_depth(known, 4) == {"eos_token_id": 2, "assistant_early_exit": 4}
    assert "dola_layers" in caplog.text
    assert of_depth({"dola_layers": "high"}, 1) == {"dola_layers": "high"}


@pytest.mark.parametrize(
    ("found", "ends"), [(None, []), (2, [2]), ([2, 7], [2, 7]), ([], []), (-1, [])]
)
def test_every_end_token_ends_a_text(found: object, ends: list[int]) -> None:
    known = {"eos_token_id": found, "temperature": 0.7}
    assert end_tokens(known) == ends
    assert end_tokens(with_end(known, 5)) == [*ends, 5]
    assert with_end(known, None) == known
    for wrong in ("2", [2, None], True, {"a": 1}):
        with pytest.raises(RequestError, match="eos_token_id"):
            end_tokens({"eos_token_id": wrong})
