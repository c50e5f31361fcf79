"""Data that claims much, or is no file at all: one message, in bounded time and memory."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.commands import TINY, command, refused, refused_all, replace_by
from tests.data.made import tree_files, write_tar, write_tree

pytestmark = pytest.mark.usefixtures("little_memory")

IMAGES = (*TINY, "--set=data.source=image-folder", "--set=train.batch_size=4", "--quiet")
TEXTS = ("--preset=shakespeare-llama", "--set=train.updates=1", "--quiet")


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
        refused_all(work, [[*train, f"--data={data}"]], "train/a/000.png", "64 million pixels")


def test_a_small_archive_of_very_much(work: Path) -> None:
    with tarfile.open("bomb.tar.xz", "w:xz", preset=1) as tar:
        for number in range(20):
            member = tarfile.TarInfo(f"train/a/{number}.bin")
            member.size = 100 << 20
            tar.addfile(member, io.BufferedReader(_Zeros()))
    assert Path("bomb.tar.xz").stat().st_size < 1 << 20
    refused_all(work, [["train", *IMAGES, "--data=bomb.tar.xz"]], "more than 200 times its size")


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
        refused_all(work, [["train", *IMAGES, f"--data={name}.tar"]], f"{name}.tar")


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
        refused_all(work, [train], f"wide.{suffix}", "more than 1,000 columns")
    Path("long.txt").write_bytes(b"a" * 2_000_000)
    Path("long.csv").write_bytes(b"text\n" + b"a" * 2_000_000)
    for name in ("long.txt", "long.csv"):
        refused_all(work, [["train", *TEXTS, f"--data={name}"]], f"{name}, line", "longer than")


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
        refused_all(work, [train], f"{name} unpacks to more than 200 times its size")


# ---- links, pipes and devices


@pytest.mark.parametrize("kind", ["pipe", "loop", "passwords", "zeros"])
def test_data_that_is_no_file(work: Path, kind: str) -> None:
    write_tree(work / "tree", tree_files())
    replace_by(work / "tree/train/a/000.png", kind)
    refused(command("train", *IMAGES, "--data=tree"), 2, "train/a/000.png")
    (work / "texts").mkdir()
    for name in ("train.tsv", "train.jsonl", "train.parquet"):
        (work / "texts" / name).touch()
        replace_by(work / "texts" / name, kind)
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
