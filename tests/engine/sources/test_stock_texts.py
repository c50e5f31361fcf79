"""Tokenizers and generation of stock checkpoints: prompts begin and texts end as transformers'."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from sortednet_cli.data.text.tokenizer import load_tokenizer, start_token
from sortednet_cli.engine.export.extract import extract
from sortednet_cli.engine.generation.generator import Generator
from sortednet_cli.engine.loaded import load_artifact
from sortednet_cli.engine.sources.stock import load_stock
from sortednet_cli.engine.training.start import create_session
from sortednet_cli.errors import RequestError
from sortednet_cli.spec import load_preset
from tests.commands import command, refused

BEGIN, END, PAD = 0, 1, 2
ROWS = 300
"""Of the embedding: some more than the tokenizer has tokens."""

PROMPT = "Hello world"


def _tokenizer(template: str = "$A") -> transformers.PreTrainedTokenizerFast:
    """A byte-level tokenizer that knows a start token; the template says whether it adds one."""
    names = ["<s>", "</s>", "<pad>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = [("<s>", BEGIN), ("</s>", END)]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    made: transformers.PreTrainedTokenizerFast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal checkpoint with its tokenizer; not to be changed."""
    folder = tmp_path_factory.mktemp("made") / "stock"
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=ROWS,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=BEGIN,
        eos_token_id=END,
    )
    model = transformers.Qwen2ForCausalLM(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def stock(made: Path, work: Path) -> Path:
    shutil.copytree(made, work / "stock")
    return work / "stock"


def _edit(file: Path, **entries: object) -> None:
    known = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**known, **entries}))


def _cut(stock: Path) -> Path:
    source = load_stock(stock)
    extract(source, source.space.largest, Path("cut"), check_outputs=False)
    return Path("cut")


def _stock_text(folder: Path) -> tuple[str, int, list[int]]:
    """What transformers says after the prompt, the tokens of the prompt, and those it chose."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(PROMPT, return_tensors="pt", return_token_type_ids=False)
    found = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0]
    chosen = found[inputs["input_ids"].shape[1] :].tolist()
    text = tokenizer.decode(chosen, skip_special_tokens=True)
    return text, inputs["input_ids"].shape[1], chosen


def _own_text(folder: Path) -> tuple[str, int, str]:
    done = command("generate", folder, "--prompt", PROMPT, "--max-new-tokens=12", "--json")
    assert done.code == 0, done
    document = json.loads(done.out)
    (answer,) = document["completions"]
    return answer["text"], document["statistics"]["prompt_tokens"], answer["finish"]


@pytest.mark.parametrize("place", ["config.json", "generation_config.json"])
def test_every_end_token_of_a_checkpoint_ends_a_text(stock: Path, place: str) -> None:
    _, _, chosen = _stock_text(stock)
    ends = [END, chosen[4]]
    if place == "config.json":  # transformers reads it where there is no other file
        (stock / "generation_config.json").unlink()
    _edit(stock / place, eos_token_id=ends, temperature=0.6)
    _edit(stock / "config.json", dtype="float32")
    text, _, chosen = _stock_text(stock)
    assert len(chosen) == chosen.index(ends[1]) + 1
    folder = _cut(stock)
    known = transformers.GenerationConfig.from_pretrained(folder)
    assert (known.eos_token_id, known.temperature) == (ends, 0.6)
    assert load_artifact(folder).generation["eos_token_id"] == ends
    own, _, finish = _own_text(folder)
    assert finish == "end" and text.startswith(own)


def test_what_generation_asks_for_and_is_not_done_is_said(stock: Path) -> None:
    _edit(stock / "generation_config.json", repetition_penalty=1.3, top_p=0.8)
    done = command("generate", _cut(stock), "--prompt", PROMPT, "--max-new-tokens=1")
    assert "generation_config.json: ignored settings: repetition_penalty\n" in done.err


def test_a_run_ends_where_its_pretrained_model_and_its_texts_do(stock: Path) -> None:
    _edit(stock / "generation_config.json", eos_token_id=[7, 9], temperature=0.6)
    Path("texts.txt").write_text("the cat sat on the mat\n" * 60)
    settings = ["data.source=text", "data.path=texts.txt", "data.max_length=16",
                "model.config={}", "model.pretrained=stock", "model.reorder=none",
                "train.batch_size=2", "train.updates=1", "space.depth=[1,2]"]  # fmt: skip
    fit = create_session(Path("run"), load_preset("pydoc-llama", settings), torch.device("cpu"))
    known = json.loads((fit.run.tokenizer / "generation_config.json").read_text())
    assert (known["eos_token_id"], known["temperature"]) == ([7, 9, END], 0.6)


@pytest.mark.parametrize(
    ("template", "start", "said"),
    [("$A", [], ""), ("<s> $A", [BEGIN], ""), ("<s> $A </s>", [BEGIN], "puts after a text: </s>")],
)
def test_the_tokenizer_decides_how_a_prompt_begins(
    stock: Path, template: str, start: list[int], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    _tokenizer(template).save_pretrained(stock)
    source = load_stock(stock)
    with caplog.at_level(logging.INFO):
        generator = Generator(source, source.space.largest, torch.device("cpu"))
    assert caplog.text.count("puts after a text") == bool(said) and said in caplog.text
    tokenizer = load_tokenizer(stock)
    (found,) = generator.encode([PROMPT])
    assert found == tokenizer(PROMPT)["input_ids"][: len(found)]
    assert found[: len(start)] == start and len(found) == len(start) + len(PROMPT)
    assert start_token(tokenizer, "causal-lm") == (start[0] if start else None)


def test_a_text_is_that_of_transformers(stock: Path) -> None:
    text, count, _ = _stock_text(stock)
    assert _own_text(_cut(stock))[:2] == (text, count)


def test_two_tokens_before_a_text_cannot_be_trained() -> None:
    with pytest.raises(RequestError, match="one token before a text; the tokenizer puts <s>, </s>"):
        start_token(_tokenizer("<s> </s> $A"), "causal-lm")


def test_spare_rows_of_an_embedding_are_no_fault(stock: Path) -> None:
    Path("texts.txt").write_text("the cat sat on the mat and ran off\n" * 60)
    folder = _cut(stock)
    for arguments in (["eval"], ["generate", "--calibrate"]):
        done = command(*arguments, folder, "--data", "texts.txt", "--quiet")
        assert done.code == 0, done
    more = [f"<{i}>" for i in range(ROWS)]
    tokenizer = _tokenizer()
    tokenizer.add_tokens(more)
    tokenizer.save_pretrained(stock)
    shutil.rmtree("cut")
    folder = _cut(stock)
    told = ["the tokenizer", "tokens", "300"]
    refused(command("eval", folder, "--data", "texts.txt"), 2, *told)
    refused(command("generate", folder, "--prompt", PROMPT), 2, *told)


# ---- tokenizers of other kinds


def _same_tokens(one: Path, other: Path, **messages: Any) -> None:
    first, second = (transformers.AutoTokenizer.from_pretrained(path) for path in (one, other))
    text = "Hello wörld <extra> it's"
    assert first(text)["input_ids"] == second(text)["input_ids"]
    if first.chat_template:
        chat = [{"role": "user", "content": "hi"}]
        for name in first.chat_template if isinstance(first.chat_template, dict) else [None]:
            said = [
                t.apply_chat_template(chat, chat_template=name, tokenize=False)
                for t in (first, second)
            ]
            assert said[0] == said[1]


def test_templates_and_added_tokens_travel(stock: Path) -> None:
    tokenizer = _tokenizer("<s> $A")
    tokenizer.add_tokens(["<extra>"])
    hello = "hello {{ messages[0]['content'] }}"
    tokenizer.chat_template = {"default": hello, "tool_use": f"{hello} with tools"}
    tokenizer.save_pretrained(stock)
    assert (stock / "additional_chat_templates" / "tool_use.jinja").is_file()
    (stock / "additional_chat_templates" / "notes.txt").write_text("not a template")
    folder = _cut(stock)
    _same_tokens(stock, folder)
    assert "AutoTokenizer" in (folder / "README.md").read_text()
    assert not (folder / "additional_chat_templates" / "notes.txt").exists()


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "w", "##o", "##r", "##ld", "it"]


def test_a_bare_vocabulary_is_a_tokenizer(work: Path) -> None:
    """As the first BERT checkpoints had it: vocab.txt, and not a file that says its class."""
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    transformers.BertForMaskedLM(config).save_pretrained("stock")
    Path("stock/vocab.txt").write_text("\n".join(WORDS))
    folder = _cut(Path("stock"))
    _same_tokens(Path("stock"), folder)
    assert "AutoTokenizer" in (folder / "README.md").read_text()
    Path("texts.txt").write_text("hello world it\n" * 60)
    assert command("eval", folder, "--data", "texts.txt", "--quiet").code == 0


def test_a_sentencepiece_model_alone_needs_its_package(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sortednet_cli.data.text.tokenizer.find_spec", lambda _: None)
    Path("tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")
    Path("config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(RequestError, match="pip install sentencepiece"):
        load_tokenizer(Path())
