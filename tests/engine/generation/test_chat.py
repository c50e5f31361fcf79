"""Prompts as users' turns: of a stock checkpoint, of a run trained so, and of its artifact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from sortednet_cli.engine.generation.generator import Generator
from sortednet_cli.engine.sources.stock import load_stock
from tests.commands import command, refused
from tests.data.text.made import asked, write_jsonl
from tests.data.text.test_prompting import CHAT, tokenizer_with

SPEC = """
task = "answers"
[model]
family = "llama"
pretrained = "stock"
[space]
depth = [1, 2]
[train]
rule = "sum"
updates = 2
batch_size = 2
optimizer = "adamw"
lr = 1e-4
[data]
source = "text"
path = "data"
template = "chat"
max_length = 64
"""
QUESTION = "what is 1 + 1?"


@pytest.fixture
def stock(work: Path) -> Path:
    tokenizer = tokenizer_with(CHAT)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = transformers.LlamaForCausalLM(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(work / "stock")
    tokenizer.save_pretrained(work / "stock")
    return work / "stock"


def _stock_tokens(folder: Path, chat: bool) -> tuple[list[int], list[int]]:
    """What transformers is asked, and the tokens that it says."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    turn = [{"role": "user", "content": QUESTION}]
    text: Any = QUESTION
    if chat:
        text = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(text, add_special_tokens=not chat, return_tensors="pt")["input_ids"]
    found = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
    )[0]
    return ids[0].tolist(), found[ids.shape[1] :].tolist()


def _own(folder: Path, *more: str) -> dict[str, Any]:
    done = command("generate", folder, "--prompt", QUESTION, "--max-new-tokens=12", "--json", *more)
    assert done.code == 0, done
    document: dict[str, Any] = json.loads(done.out)
    return document


def _own_tokens(folder: Path, chat: bool) -> tuple[list[int], list[int]]:
    source = load_stock(folder)
    generator = Generator(source, source.space.largest, torch.device("cpu"), chat=chat)
    (ids,) = generator.encode([QUESTION])
    return ids, list(generator.decoder.stream(ids, generator.strategy("greedy"), 12))


@pytest.mark.parametrize("chat", [True, False])
def test_a_stock_checkpoint_is_asked_as_transformers_is(stock: Path, chat: bool) -> None:
    assert _own_tokens(stock, chat) == _stock_tokens(stock, chat)
    ids, _ = _stock_tokens(stock, chat)
    document = _own(stock, *(["--chat"] if chat else []))
    assert document["statistics"]["prompt_tokens"] == len(ids)


def test_the_end_of_the_template_ends_a_text(stock: Path) -> None:
    """Also where the checkpoint itself names no end."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(stock)
    tokenizer.chat_template = CHAT.replace("<|end|>", "<|pad|>")
    tokenizer.save_pretrained(stock)
    model = transformers.AutoModelForCausalLM.from_pretrained(stock)
    with torch.no_grad():  # it says the token that ends a turn, whatever it is asked
        model.lm_head.weight.zero_()
        model.model.norm.weight.zero_()
        model.model.norm.weight[0] = 1
        model.model.embed_tokens.weight[:, 0] = 100
        model.lm_head.weight[tokenizer.pad_token_id, 0] = 1
    model.save_pretrained(stock)
    assert _own_tokens(stock, chat=False)[1] == [tokenizer.pad_token_id] * 12
    assert _own_tokens(stock, chat=True)[1] == []


def test_a_run_trained_on_turns_is_asked_in_turns(stock: Path, work: Path) -> None:
    (work / "data").mkdir()
    for part in ("train", "test"):
        write_jsonl(work / "data" / f"{part}.jsonl", asked())
    (work / "spec.toml").write_text(SPEC)
    done = command("train", "--config=spec.toml", "--out=run", "--quiet")
    assert done.code == 0, done
    assert command("extract", "run", "--depth=2", "--out=cut", "--quiet").code == 0
    ids, said = _stock_tokens(work / "cut", chat=True)
    for folder in ("run", "cut"):
        document = _own(work / folder)
        assert document["statistics"]["prompt_tokens"] == len(ids)
        assert document["completions"][0]["tokens"] == len(said)
    plain = _own(work / "run", "--no-chat")["statistics"]["prompt_tokens"]
    assert plain < len(ids)


def test_what_is_refused(stock: Path, work: Path) -> None:
    (work / "spec.toml").write_text(SPEC.replace('"answers"', '"causal-lm"'))
    refused(command("train", "--config=spec.toml"), 2, "data.template", "'answers'", "causal-lm")
    (work / "spec.toml").write_text(SPEC.replace('template = "chat"', 'template = "talk"'))
    refused(command("train", "--config=spec.toml"), 2, "data.template", "'plain' or 'chat'")
    (stock / "chat_template.jinja").unlink()
    asking = command("generate", stock, "--prompt=a", "--chat")
    refused(asking, 2, "the tokenizer has no chat template")
