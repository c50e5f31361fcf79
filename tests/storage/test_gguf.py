"""GGUF files as pretrained models: dequantised once, then read as any other checkpoint."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sortednet_cli.errors import RequestError
from sortednet_cli.storage import gguf as reading
from sortednet_cli.storage.pretrained import open_pretrained
from tests.commands import command, listing, refused

HEADS, KV_HEADS, LAYERS, HIDDEN, FFN = 4, 2, 3, 32, 64
SPEC = """
task = "causal-lm"
[model]
family = "llama"
pretrained = {place!r}
[space]
depth = [1, 3]
[train]
rule = "sum"
updates = 2
batch_size = 2
optimizer = "adamw"
lr = 1e-4
[data]
source = "text"
path = "plain.txt"
max_length = 16
"""


def vocabulary() -> list[str]:
    """Every byte, and a merged pair."""
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    return [*alphabet, alphabet[0] + alphabet[1]]


def stock() -> Any:
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary()) + 2,
        hidden_size=HIDDEN,
        intermediate_size=FFN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    return transformers.LlamaForCausalLM(config).eval()


_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "model.layers.": "blk.",
    ".self_attn.q_proj": ".attn_q",
    ".self_attn.k_proj": ".attn_k",
    ".self_attn.v_proj": ".attn_v",
    ".self_attn.o_proj": ".attn_output",
    ".mlp.gate_proj": ".ffn_gate",
    ".mlp.up_proj": ".ffn_up",
    ".mlp.down_proj": ".ffn_down",
    ".input_layernorm": ".attn_norm",
    ".post_attention_layernorm": ".ffn_norm",
}


def _rotary(weight: Tensor, heads: int) -> Tensor:
    """The order of llama.cpp's rotary embedding, which pairs neighbours."""
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def write(
    path: Path, architecture: str = "llama", quantise: str = "", lacking: str = "no tensor"
) -> dict[str, Tensor]:
    """Write a tiny LLaMA with the package's own writer; return its tensors by transformers' names.

    Args:
        quantise: the end of the names of weights to store in blocks of eight bits.
        lacking: a part of the names of tensors to leave out.
    """
    import gguf

    model, words = stock(), vocabulary()
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    writer.add_vocab_size(model.config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*words, "<|begin|>", "<|endoftext|>"])
    writer.add_token_types([1] * len(words) + [3, 3])
    writer.add_token_merges([f"{words[0]} {words[1]}"])
    writer.add_bos_token_id(len(words))
    writer.add_eos_token_id(len(words) + 1)
    writer.add_unk_token_id(len(words) + 1)
    every = model.state_dict().items()
    state = {n: t for n, t in every if n != "lm_head.weight" and lacking not in n}
    for name, tensor in state.items():
        stored = name
        for ours, theirs in _NAMES.items():
            stored = stored.replace(ours, theirs)
        heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(name.split(".")[-2])
        values = np.ascontiguousarray((_rotary(tensor, heads) if heads else tensor).numpy())
        if quantise and name.endswith(quantise):
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(stored, gguf.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(stored, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return state


@pytest.fixture(autouse=True)
def _each_reads_anew() -> Iterator[None]:
    yield
    reading._dequantised.cache_clear()


def test_tensors_configuration_and_tokenizer_are_the_file_s(work: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    state = write(work / "tiny.gguf", quantise="mlp.up_proj.weight")
    opened = open_pretrained(str(work / "tiny.gguf"))
    read = opened.tensors()
    assert read.keys() == state.keys()
    for name, tensor in state.items():
        assert read[name].dtype == torch.float32
        if name.endswith("mlp.up_proj.weight"):
            assert not torch.equal(read[name], tensor)
            step = tensor.view(-1, 32).abs().amax(1) / 127
            error = (read[name] - tensor).view(-1, 32).abs().amax(1)
            assert (error < 0.6 * step).all()
        else:
            assert torch.equal(read[name], tensor), name
    assert "quantization_config" not in opened.config
    ids = torch.tensor([[1, 2, 3, 5, 8]])
    again = AutoModelForCausalLM.from_pretrained(opened.folder).eval()
    own = stock()
    own.load_state_dict(read, strict=False)
    assert torch.equal(again(ids).logits, own(ids).logits)
    tokenizer = AutoTokenizer.from_pretrained(opened.folder)
    assert tokenizer.decode(tokenizer("a word")["input_ids"]) == "a word"


def test_it_is_read_once(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    write(work / "tiny.gguf")
    folder = open_pretrained("tiny.gguf").folder
    before = listing(folder)
    reading._dequantised.cache_clear()
    assert open_pretrained("tiny.gguf").folder == folder
    assert listing(folder) == before
    assert caplog.text.count("dequantised to float32") == 2
    os.utime(work / "tiny.gguf", ns=(1, 1))
    assert open_pretrained("tiny.gguf").folder != folder


def test_train_evaluate_and_generate(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file in an installed package's folder."""
    package = tmp_path / "packages" / "holds_gguf"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    write(package / "tiny.gguf")
    monkeypatch.syspath_prepend(str(package.parent))
    (work / "plain.txt").write_text("the quick brown fox jumps over a lazy dog\n" * 30)
    (work / "spec.toml").write_text(SPEC.format(place="package:holds_gguf"))
    done = command("train", "--config=spec.toml", "--out=run")
    assert done.code == 0, done
    assert done.err.count("dequantised to float32") == 1
    assert "GGUF tensors" not in done.err  # the progress of transformers' own reader
    assert command("eval", "run", "--depth=1", "--quiet").code == 0
    done = command("generate", "run", "--prompt=a", "--max-new-tokens=2", "--quiet")
    assert done.code == 0, done


@pytest.mark.parametrize(
    ("name", "content", "fragment"),
    [
        ("wrong.gguf", b"PK\x03\x04 and more", "is not a GGUF file"),
        ("short.gguf", b"GGUF\x03\0\0\0", "cannot be read"),
        ("gone.gguf", None, "there is no file or folder"),
    ],
)
def test_a_file_that_cannot_be_read(
    work: Path, name: str, content: bytes | None, fragment: str
) -> None:
    _refused_in_training(work, name, content, fragment)


def test_a_truncated_file(work: Path) -> None:
    write(work / "whole.gguf")
    half = (work / "whole.gguf").read_bytes()[:-4000]
    _refused_in_training(work, "half.gguf", half, "half.gguf cannot be read")


def test_a_file_that_lacks_a_tensor(work: Path) -> None:
    """Random values must not stand for it."""
    write(work / "whole.gguf", lacking="layers.1.mlp.up_proj")
    content = (work / "whole.gguf").read_bytes()
    line = "part.gguf lacks tensors of its network: model.layers.1.mlp.up_proj.weight"
    _refused_in_training(work, "part.gguf", content, line)


def test_an_architecture_that_transformers_does_not_know(work: Path) -> None:
    write(work / "whole.gguf", architecture="mpt")
    content = (work / "whole.gguf").read_bytes()
    _refused_in_training(work, "mpt.gguf", content, "mpt")


@pytest.mark.parametrize("lacks", ["gguf", "accelerate"])
def test_without_the_extra(work: Path, monkeypatch: pytest.MonkeyPatch, lacks: str) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(reading, "find_spec", lambda n: None if n == lacks else found(n))
    line = f"needs {lacks}: pip install '.[gguf]' in your checkout"
    _refused_in_training(work, "a.gguf", b"GGUF", line)


def test_a_folder_of_two_files_says_what_it_holds(work: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (work / name).write_bytes(b"GGUF")
    (work / "config.json").write_text("{}")
    with pytest.raises(RequestError, match=r"holds no model\.safetensors, but a\.gguf, b\.gguf"):
        open_pretrained(str(work))


def _refused_in_training(work: Path, name: str, content: bytes | None, fragment: str) -> None:
    if content is not None:
        (work / name).write_bytes(content)
    (work / "plain.txt").write_text("words and words\n" * 100)
    (work / "spec.toml").write_text(SPEC.format(place=name))
    before = listing(work)
    refused(command("train", "--config=spec.toml", "--quiet"), 2, name, fragment)
    assert listing(work) == before
    assert not list((work.parent / "cache").rglob("*.safetensors"))
