"""Small files of runs that claim much, links, pipes and names: one message, in bounded time."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sortednet_cli.bounded import MAX_JSON, MAX_NESTING, MAX_SPEC
from sortednet_cli.errors import plain
from sortednet_cli.families.root import MAX_BLOCKS
from sortednet_cli.space import MAX_SUBMODELS
from tests.cli.test_bad_input import RUN, edit, unfinished
from tests.commands import TINY, command, refused, refused_all, replace_by
from tests.data.made import tree_files, write_tree
from tests.sealing import reseal

pytestmark = pytest.mark.usefixtures("little_memory")

IMAGES = (*TINY, "--set=data.source=image-folder", "--set=train.batch_size=4", "--quiet")


# ---- safetensors


def _tensors(header: bytes, values: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + values


def _claim(shape: list[int], end: int) -> bytes:
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}
    return _tensors(json.dumps({"head.weight": entry}).encode())


HEADERS = {
    "length": struct.pack("<Q", 2**40) + b"{}",
    "length-huge": b"\xff" * 8,
    "tensor": _claim([10**6, 10**6], 4 * 10**12),
    "overflow": _claim([2**62, 2**62], 16),
    "negative": _tensors(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,-4]}}'),
    "nested": _tensors(b"[" * 100_000),
    "twice": _tensors(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},' * 2, b"\0"),
    "type": _tensors(b'{"a":{"dtype":"PYOBJ","shape":[1],"data_offsets":[0,1]}}', b"\0"),
    "short": b"\0\0\0",
    "nothing": b"",
}


@pytest.mark.parametrize("name", sorted(HEADERS))
@pytest.mark.parametrize("file", ["weights.safetensors", "statistics.safetensors"])
def test_headers_that_claim_too_much(home: Path, file: str, name: str) -> None:
    (RUN / file).write_bytes(HEADERS[name])
    reseal(RUN)
    refused_all(home, [["eval", RUN], ["extract", RUN]], file)


def _sparse(path: Path, name: str, num_bytes: int) -> None:
    """A file with a tensor of zeros that no disk holds."""
    entry = {"dtype": "U8", "shape": [num_bytes], "data_offsets": [0, num_bytes]}
    path.write_bytes(_tensors(json.dumps({name: entry}).encode()))
    os.truncate(path, path.stat().st_size + num_bytes)


@pytest.mark.parametrize("file", ["weights.safetensors", "statistics.safetensors"])
def test_a_sparse_file_is_not_read(home: Path, file: str) -> None:
    _sparse(RUN / file, "w0.5-d1/norm.running_mean", 1 << 29)
    reseal(RUN)
    for name in ("eval", "extract"):
        refused(command(name, RUN), 2, file, "does not belong here")


def test_a_sparse_checkpoint_is_not_read(home: Path) -> None:
    unfinished()
    _sparse(RUN / "checkpoints/step-3/weights.safetensors", "head.weight", 1 << 29)
    refused(command("train", "--resume", RUN, "--quiet"), 2, "weights.safetensors")


def test_one_more_tensor(home: Path) -> None:
    file = RUN / "weights.safetensors"
    save_file({**load_file(file), "extra": torch.zeros(9)}, file)
    reseal(RUN)
    refused_all(home, [["eval", RUN], ["extract", RUN]], "extra does not fit the model")


# ---- JSON and TOML


@pytest.mark.parametrize("file", ["run.json", "frontier.json", "spec.toml"])
def test_text_of_many_megabytes(home: Path, file: str) -> None:
    most = MAX_SPEC if file == "spec.toml" else MAX_JSON
    with (RUN / file).open("ab") as opened:
        opened.truncate(most + 1)
    reseal(RUN)
    for name in ("info", "eval", "extract", "frontier"):
        refused(command(name, RUN), 2, file, f"it has more than {most >> 20} MiB")


DEEP = {
    "run.json": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "frontier.json": b"[" * 50_000,
    "spec.toml": b"a = " + b"[" * 50_000 + b"]" * 50_000,
}


@pytest.mark.parametrize("file", sorted(DEEP))
def test_text_nested_without_end(home: Path, file: str) -> None:
    (RUN / file).write_bytes(DEEP[file])
    reseal(RUN)
    refused_all(home, [["info", RUN], ["eval", RUN], ["frontier", RUN]], file)


@pytest.mark.parametrize("depth", [MAX_NESTING, 400])
def test_a_spec_nested_too_deep(work: Path, depth: int) -> None:
    deep = "[" * depth + "]" * depth
    refused(command("train", *TINY, f"--set=model.config.channels={deep}"), 2, "model.config")


def test_numbers_without_end(home: Path) -> None:
    digits = "9" * 5000
    refused(command("train", *TINY, f"--set=train.updates={digits}"), 2, "train.updates")
    text = (RUN / "spec.toml").read_text()
    (RUN / "spec.toml").write_text(text.replace("seed = 0", f"seed = {digits}"))
    reseal(RUN)
    refused_all(home, [["info", RUN], ["eval", RUN]], "spec.toml")


def test_a_search_space_without_end(home: Path) -> None:
    widths = [round(i / 1000, 3) for i in range(1, 1001)]
    depths = list(range(1, 1001))
    large = [f"--set=space.width={widths}", f"--set=space.depth={depths}"]
    said = f"1,000,000 sub-models, more than {MAX_SUBMODELS:,}"
    refused(command("train", *TINY, *large), 2, "space: ", said)
    assert command("extract", "--out=cut", "--quiet").code == 0
    edit(Path("cut/sortednet.json"), "space", value={"width": widths, "depth": depths})
    refused_all(home, [["eval", "cut"], ["extract", "cut"]], said)
    text = (RUN / "spec.toml").read_text()
    start = text.index("[space]")
    stop = text.index("[train]")
    spaces = f"[space]\nwidth = {widths}\ndepth = {depths}\n\n"
    (RUN / "spec.toml").write_text(text[:start] + spaces + text[stop:])
    reseal(RUN)
    refused_all(home, [["info", RUN], ["eval", RUN]], said)


def test_networks_without_end(home: Path) -> None:
    for value in (["--set=model.config.blocks=[1000000000]"], ["--set=model.config.blocks=[5000]"]):
        refused(command("train", *TINY, *value), 2, f"more than {MAX_BLOCKS:,} blocks")
    edit(RUN / "run.json", "root", "config", "blocks", value=[10**9])
    refused_all(home, [["eval", RUN], ["extract", RUN]], f"more than {MAX_BLOCKS:,} blocks")
    edit(RUN / "run.json", "root", "config", "blocks", value=[8])
    for channels in (10**4, 10**9, 2**63, 10**30):
        edit(RUN / "run.json", "root", "config", "channels", value=[channels])
        edit(RUN / "run.json", "root", "config", "stem_channels", value=channels)
        refused_all(home, [["eval", RUN], ["extract", RUN]])


HUGE_STOCK: list[dict[str, Any]] = [
    {"num_hidden_layers": 10**9},
    {"num_hidden_layers": 10**30},
    {"hidden_size": 10**9, "num_attention_heads": 10**9, "num_key_value_heads": 10**9},
    {"hidden_size": 10**9},
    {"intermediate_size": 10**12},
    {"vocab_size": 10**12},
    {"vocab_size": 10**30},
    {"max_position_embeddings": -1},
    {"num_labels": 10**9},
    {"num_attention_heads": 0},
    {"num_hidden_layers": -5},
    {"hidden_size": "wide"},
    {"intermediate_size": 0},
    {"pad_token_id": 10**12},
    {"id2label": 3},
    {"architectures": {"a": {}}},
    {"architectures": []},
    {"model_type": ["llama"]},
    {"max_position_embeddings": {"": 1}},
    {"max_position_embeddings": float("inf")},
    {"pad_token_id": "zero"},
    {"eos_token_id": []},
    {"rope_parameters": {"rope_type": "no such type"}},
]


@pytest.mark.parametrize("claim", HUGE_STOCK, ids=json.dumps)
@pytest.mark.parametrize("name", ["LlamaForCausalLM", "BertForMaskedLM"])
def test_a_stock_checkpoint_that_claims_too_much(
    work: Path, name: str, claim: dict[str, Any]
) -> None:
    stock = {
        "architectures": [name],
        "model_type": name.partition("For")[0].lower(),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vocab_size": 40,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    }
    Path("stock").mkdir()
    Path("stock/config.json").write_text(json.dumps({**stock, **claim}))
    save_file({"x": torch.zeros(3)}, "stock/model.safetensors")
    refused_all(work, [["extract", "stock", "--depth=1"], ["extract", "stock", "--width=0.5"]])


# ---- links, pipes and devices


@pytest.mark.parametrize("file", ["weights.safetensors", "statistics.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "loop", "passwords", "zeros", "folder"])
def test_tensors_that_are_no_file(home: Path, file: str, kind: str) -> None:
    replace_by(RUN / file, kind)
    for name in ("eval", "extract"):
        refused(command(name, RUN), 2, file)


@pytest.mark.parametrize("file", ["run.json", "frontier.json", "spec.toml"])
@pytest.mark.parametrize("kind", ["pipe", "loop", "passwords", "zeros", "folder"])
def test_texts_of_a_run_that_are_no_file(home: Path, file: str, kind: str) -> None:
    replace_by(RUN / file, kind)
    for name in ("info", "eval", "frontier"):
        refused(command(name, RUN), 2, str(RUN))


# ---- what reaches the terminal

ORDERS = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\u2066\x00\r"


def test_a_terminal_gets_no_orders(home: Path) -> None:
    assert command("extract", "--out=cut", "--quiet").code == 0
    edit(Path("cut/sortednet.json"), "loader", value=ORDERS)
    shown = command("info", "cut")
    assert shown.code == 0
    assert "\\x1b[2J" in shown.out
    edit(RUN / "run.json", "root", "family", value=ORDERS)
    edit(RUN / "run.json", "data", "classes", value=[ORDERS])
    name = "train/a\x1b[31m/b\x9b.png"
    write_tree(home / "tree", {**tree_files(), name: b"no image"})
    told = [
        command("eval", RUN),
        command("eval", f"nowhere{ORDERS[:20]}"),
        command("train", f"--prese{ORDERS[:20]}"),
        command("train", f"--preset={ORDERS[:20]}"),
        command("train", *IMAGES, "--data=tree"),
        command("train", *TINY, f"--set=model.config.{ORDERS[:20]}=1"),
    ]
    for done in told:
        refused(done, 2)
    for text in (shown.out, *(done.err for done in told)):
        assert all(char.isprintable() or char == "\n" for char in text), text


@pytest.mark.parametrize("text", ["plain", "naïve 日本\nline", "a  b", "🙂 é"])
def test_text_that_is_harmless_stays(text: str) -> None:
    assert plain(text) == text


def test_orders_become_escapes() -> None:
    assert plain("\x1b[2J\u202e\ud800\t") == "\\x1b[2J\\u202e\\ud800\\t"
