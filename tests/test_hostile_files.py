"""Small files that claim much, links, pipes and names: one message, in bounded time and memory."""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sortednet_cli.bounded import MAX_JSON, MAX_NESTING, MAX_SPEC
from sortednet_cli.errors import plain
from sortednet_cli.families.base import MAX_BLOCKS
from sortednet_cli.space import MAX_SUBMODELS
from tests.commands import TINY, command, listing, refused
from tests.data.made import tree_files, write_tar, write_tree
from tests.sealing import reseal
from tests.test_bad_input import RUN, edit, unfinished

IMAGES = (*TINY, "--set=data.source=image-folder", "--set=train.batch_size=4", "--quiet")
TEXTS = ("--preset=shakespeare-llama", "--set=train.updates=1", "--quiet")


@pytest.fixture(autouse=True)
def _memory() -> Iterator[None]:
    """1.25 GiB more than now are enough for every refusal."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (5 << 28), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def _refused_all(folder: Path, commands: list[list[Any]], *fragments: str) -> None:
    before = listing(folder)
    for arguments in commands:
        refused(command(*arguments), 2, *fragments)
    assert listing(folder) == before


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
    _refused_all(home, [["eval", RUN], ["extract", RUN]], file)


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
    _refused_all(home, [["eval", RUN], ["extract", RUN]], "extra does not fit the model")


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
    _refused_all(home, [["info", RUN], ["eval", RUN], ["frontier", RUN]], file)


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
    _refused_all(home, [["info", RUN], ["eval", RUN]], "spec.toml")


def test_a_search_space_without_end(home: Path) -> None:
    widths = [round(i / 1000, 3) for i in range(1, 1001)]
    depths = list(range(1, 1001))
    large = [f"--set=space.width={widths}", f"--set=space.depth={depths}"]
    said = f"1,000,000 sub-models, more than {MAX_SUBMODELS:,}"
    refused(command("train", *TINY, *large), 2, "space: ", said)
    assert command("extract", "--out=cut", "--quiet").code == 0
    edit(Path("cut/sortednet.json"), "space", value={"width": widths, "depth": depths})
    _refused_all(home, [["eval", "cut"], ["extract", "cut"]], said)
    text = (RUN / "spec.toml").read_text()
    start = text.index("[space]")
    stop = text.index("[train]")
    spaces = f"[space]\nwidth = {widths}\ndepth = {depths}\n\n"
    (RUN / "spec.toml").write_text(text[:start] + spaces + text[stop:])
    reseal(RUN)
    _refused_all(home, [["info", RUN], ["eval", RUN]], said)


def test_networks_without_end(home: Path) -> None:
    for value in (["--set=model.config.blocks=[1000000000]"], ["--set=model.config.blocks=[5000]"]):
        refused(command("train", *TINY, *value), 2, f"more than {MAX_BLOCKS:,} blocks")
    edit(RUN / "run.json", "root", "config", "blocks", value=[10**9])
    _refused_all(home, [["eval", RUN], ["extract", RUN]], f"more than {MAX_BLOCKS:,} blocks")
    edit(RUN / "run.json", "root", "config", "blocks", value=[8])
    for channels in (10**4, 10**9, 2**63, 10**30):
        edit(RUN / "run.json", "root", "config", "channels", value=[channels])
        edit(RUN / "run.json", "root", "config", "stem_channels", value=channels)
        _refused_all(home, [["eval", RUN], ["extract", RUN]])


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
    _refused_all(work, [["extract", "stock", "--depth=1"], ["extract", "stock", "--width=0.5"]])


# ---- images and archives


def _png_of(width: int, height: int) -> bytes:
    """The header of a PNG, and no more than a few zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    size = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    values = chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    return b"\x89PNG\r\n\x1a\n" + size + values + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(9000, 9000), (10_000, 10_000), (60_000, 60_000), (1 << 30, 1)])
def test_an_image_that_claims_too_many_pixels(work: Path, size: tuple[int, int]) -> None:
    files = {**tree_files(), "train/a/000.png": _png_of(*size)}
    write_tree(work / "tree", files)
    write_tar(work / "tree.tar", files)
    train = ["train", *IMAGES, "--set=data.image_size=8"]
    for data in ("tree", "tree.tar"):
        _refused_all(work, [[*train, f"--data={data}"]], "train/a/000.png", "64 million pixels")


def test_a_small_archive_of_very_much(work: Path) -> None:
    with tarfile.open("bomb.tar.xz", "w:xz", preset=1) as tar:
        for number in range(20):
            member = tarfile.TarInfo(f"train/a/{number}.bin")
            member.size = 100 << 20
            tar.addfile(member, io.BufferedReader(_Zeros()))
    assert Path("bomb.tar.xz").stat().st_size < 1 << 20
    _refused_all(work, [["train", *IMAGES, "--data=bomb.tar.xz"]], "more than 200 times its size")


class _Zeros(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        buffer[:] = bytes(len(buffer))
        return len(buffer)


def test_sparse_members_and_devices(work: Path) -> None:
    kinds = {"sparse": tarfile.GNUTYPE_SPARSE, "fifo": tarfile.FIFOTYPE, "device": tarfile.CHRTYPE}
    for name, kind in kinds.items():
        with tarfile.open(f"{name}.tar", "w") as tar:
            member = tarfile.TarInfo("train/a/0.png")
            member.type = kind
            tar.addfile(member)
        _refused_all(work, [["train", *IMAGES, f"--data={name}.tar"]], f"{name}.tar")


# ---- texts


def _write_parquet(path: str, columns: dict[str, Any]) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path, compression="zstd")


def test_tables_without_end(work: Path) -> None:
    many = ",".join(f"c{i}" for i in range(100_000))
    Path("wide.csv").write_text(f"{many}\n{many}\n")
    Path("wide.tsv").write_text(many.replace(",", "\t") + "\n")
    rows = ({f"{i}-{j}": 1 for j in range(500)} for i in range(10))
    Path("wide.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _write_parquet("wide.parquet", {f"c{i}": [1] for i in range(1001)})
    for suffix in ("csv", "tsv", "jsonl", "parquet"):
        train = ["train", *TEXTS, f"--data=wide.{suffix}"]
        _refused_all(work, [train], f"wide.{suffix}", "more than 1,000 columns")
    Path("long.txt").write_bytes(b"a" * 2_000_000)
    Path("long.csv").write_bytes(b"text\n" + b"a" * 2_000_000)
    for name in ("long.txt", "long.csv"):
        _refused_all(work, [["train", *TEXTS, f"--data={name}"]], f"{name}, line", "longer than")


def test_a_small_parquet_file_of_very_much(work: Path) -> None:
    import pyarrow

    word = pyarrow.array(["x" * 500_000])
    rows = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 20_000, "int32"), word)
    _write_parquet("bomb.parquet", {"text": rows})
    nothing = pyarrow.nulls(60_000_000, pyarrow.string())
    _write_parquet("nulls.parquet", {"text": nothing})
    for name in ("bomb.parquet", "nulls.parquet"):
        assert Path(name).stat().st_size < 1 << 20
        train = ["train", *TEXTS, f"--data={name}"]
        _refused_all(work, [train], f"{name} unpacks to more than 200 times its size")


# ---- links, pipes and devices


@pytest.mark.parametrize("file", ["weights.safetensors", "statistics.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "loop", "passwords", "zeros", "folder"])
def test_tensors_that_are_no_file(home: Path, file: str, kind: str) -> None:
    _replace(RUN / file, kind)
    for name in ("eval", "extract"):
        refused(command(name, RUN), 2, file)


@pytest.mark.parametrize("file", ["run.json", "frontier.json", "spec.toml"])
@pytest.mark.parametrize("kind", ["pipe", "loop", "passwords", "zeros", "folder"])
def test_texts_of_a_run_that_are_no_file(home: Path, file: str, kind: str) -> None:
    _replace(RUN / file, kind)
    for name in ("info", "eval", "frontier"):
        refused(command(name, RUN), 2, str(RUN))


def _replace(path: Path, kind: str) -> None:
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        target = {"loop": path.name, "passwords": "/etc/passwd", "zeros": "/dev/zero"}[kind]
        path.symlink_to(target)


@pytest.mark.parametrize("kind", ["pipe", "loop", "passwords", "zeros"])
def test_data_that_is_no_file(work: Path, kind: str) -> None:
    write_tree(work / "tree", tree_files())
    _replace(work / "tree/train/a/000.png", kind)
    refused(command("train", *IMAGES, "--data=tree"), 2, "train/a/000.png")
    (work / "texts").mkdir()
    for name in ("train.tsv", "train.jsonl", "train.parquet"):
        (work / "texts" / name).touch()
        _replace(work / "texts" / name, kind)
        refused(command("train", *TEXTS, "--data=texts"), 2)
        refused(command("train", *TEXTS, f"--data=texts/{name}"), 2)
        (work / "texts" / name).unlink()


def test_folders_that_links_multiply(work: Path) -> None:
    write_tree(work / "tree", tree_files())
    deep = work / "tree/train/a"
    for _ in range(80):
        deep = deep / "d"
    deep.mkdir(parents=True)
    refused(command("train", *IMAGES, "--data=tree"), 2, "64 levels deep")


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
