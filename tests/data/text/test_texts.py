"""Texts: parts, kinds of files, and every file that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sortednet_cli.data import Texts, open_texts
from sortednet_cli.data.text.tokenizer import load_tokenizer
from sortednet_cli.errors import RequestError
from sortednet_cli.spec import TextDataSpec

CPU = torch.device("cpu")
WORDS = "the quick brown fox jumps over a lazy dog and sleeps\n"


def opened(path: Path | None, task: str, **settings: object) -> Texts:
    fields = {"source": "text" if path else "pydoc", "max_length": 16, "vocab_size": 300}
    if path:
        fields["path"] = str(path)
    return open_texts(TextDataSpec.model_validate({**fields, **settings}), task)


def folder_of(root: Path, count: int = 30) -> Path:
    """Documents of different lengths, one a file."""
    folder = root / "texts"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:02}.txt").write_text(f"{number} " + WORDS * (1 + number % 3))
    return folder


def table_of(root: Path, rows: int = 40, name: str = "table.tsv") -> Path:
    file = root / name
    lines = [f"text {i} {'long ' * (i % 7)}\t{i % 2}\twhat is {i}?\tit is {i}" for i in range(rows)]
    file.write_text("text\tlabel\tquestion\tanswer\n" + "\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize("held_out", [(), ("dev",), ("dev", "test")])
def test_parts_of_a_folder(tmp_path: Path, held_out: tuple[str, ...]) -> None:
    table_of(tmp_path, 40, "train.tsv")
    for number, name in enumerate(held_out):
        table_of(tmp_path, 5 + number, f"{name}.tsv")
    texts = opened(tmp_path, "classification", validation=0.1, test=0.2)
    sizes = len(texts.train), len(texts.validation), len(texts.test)
    assert sizes == {(): (28, 4, 8), ("dev",): (36, 4, 5), ("dev", "test"): (40, 5, 6)}[held_out]


def test_one_long_text_is_cut_by_characters(tmp_path: Path) -> None:
    file = tmp_path / "book.txt"
    file.write_text("".join(f"line {i} of the book\n" for i in range(500)))
    texts = opened(file, "causal-lm", validation=0.1, test=0.2)
    total = sum(part.num_bytes for part in (texts.train, texts.validation, texts.test))
    assert total == file.stat().st_size
    assert texts.test.num_bytes == pytest.approx(0.2 * total, rel=0.1)


def test_truncated_sequences_are_counted_in_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "long.tsv"
    rows = [f"{'word ' * (60 if i < 3 else 1)}\t{i % 2}" for i in range(40)]
    file.write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    opened(file, "classification")
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == ["3 of 40 sequences are longer than 16 tokens and were truncated"]


GOOD = "text\tlabel\n" + "some text\t0\nother text\t1\n" * 20


@pytest.mark.parametrize(
    ("name", "content", "task", "message"),
    [
        ("a.tsv", b"", "classification", "a.tsv is empty"),
        ("a.tsv", GOOD.replace("label", "mark").encode(), "classification", "text, mark"),
        ("a.tsv", GOOD.encode() + b"bad \xff\t1\n", "classification", "line 42: not valid UTF-8"),
        ("a.tsv", GOOD.encode() + b"x" * 1_000_001 + b"\t1\n", "classification", "line 42"),
        ("a.csv", b"text,label\n" + b"x" * 1_000_001 + b",1\n", "classification", "line 2: longer"),
        ("a.jsonl", b'{"text": "%s"}\n' % (b"x" * 1_000_000), "causal-lm", "line 1: longer"),
        ("a.txt", b"x" * 1_000_001 + b"\n", "causal-lm", "line 1: longer"),
        ("a.tsv", GOOD.encode() + b"one field\n", "classification", "line 42"),
        ("a.tsv", GOOD.encode() + b"text\t-1\n", "classification", "line 42.*-1"),
        ("a.csv", b'text,label\n"open,1\n', "classification", "line 2"),
        ("a.jsonl", b'{"text": "a"}\n[1]\n', "causal-lm", "line 2: not a JSON object"),
        ("a.jsonl", b'{"text": 3}\n' * 40, "causal-lm", "line 1"),
        ("a.parquet", b"PAR1 no", "causal-lm", "cannot be read as parquet"),
        ("a.xyz", b"text", "causal-lm", r"suffixes are \.csv"),
        ("a.txt", b"plain words\n" * 50, "classification", "plain text"),
    ],
)
def test_files_that_are_wrong(
    tmp_path: Path, name: str, content: bytes, task: str, message: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(RequestError, match=message):
        opened(file, task)


def test_a_label_that_training_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text(GOOD)
    (tmp_path / "test.tsv").write_text("text\tlabel\nodd\t2\n")
    with pytest.raises(RequestError, match=r"test\.tsv, line 2: label = '2'.*0, 1"):
        opened(tmp_path, "classification")


def test_a_path_and_a_tokenizer_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="does not exist"):
        opened(tmp_path / "nowhere", "causal-lm")
    with pytest.raises(RequestError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)


def test_jsonl_and_parquet_give_what_a_table_gives(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    rows = [{"text": f"number {i}", "label": str(i % 2)} for i in range(40)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = [opened(tmp_path / f"a.{kind}", "classification") for kind in ("jsonl", "parquet")]
    for one, two in zip(*(texts.train.batches(4, CPU) for texts in found), strict=True):
        assert torch.equal(one[0]["input_ids"], two[0]["input_ids"])
        assert torch.equal(one[1], two[1])
