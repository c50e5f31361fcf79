"""Real files of every kind, made once by the commands themselves; each case damages a copy."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

from tests.commands import TINY, command
from tests.data.made import tree_files, write_tar, write_tree
from tests.data.text.made import labelled, write_jsonl
from tests.sealing import unfinished

IMAGES = ("--set=data.source=image-folder", "--set=train.batch_size=4", "--set=train.updates=1")
TEXTS = (
    "--preset=shakespeare-llama",
    *("--set=train.updates=1", "--set=train.batch_size=2", "--set=data.max_length=16"),
    *("--set=model.config.hidden_size=16", "--set=model.config.intermediate_size=32"),
    *("--set=model.config.num_attention_heads=2", "--set=model.config.num_key_value_heads=2"),
    *("--set=model.config.num_hidden_layers=2", "--set=space.depth=[1,2]"),
    *("--set=data.vocab_size=300", "--set=data.validation=0.2", "--set=data.test=0.2"),
)
LABELS = """
task = "classification"
[model]
family = "bert"
[model.config]
hidden_size = 16
intermediate_size = 32
num_attention_heads = 2
num_hidden_layers = 1
[space]
depth = [1]
[train]
updates = 1
batch_size = 2
[data]
source = "text"
max_length = 16
vocab_size = 300
"""


def make_template(folder: Path) -> Path:
    """Make all files; the working folder must not hold them yet."""
    before = Path.cwd()
    folder.mkdir(parents=True)
    os.chdir(folder)
    try:
        _make_data()
        _make_runs()
    finally:
        os.chdir(before)
    return folder


def _done(*arguments: str) -> None:
    done = command(*arguments, "--quiet")
    assert done.code == 0, done


def _make_data() -> None:
    files = tree_files({"train": 4, "test": 2})
    write_tree(Path("images"), files)
    for suffix, mode in {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz"}.items():
        write_tar(Path(f"images.{suffix}"), files, mode)
    rows = labelled(30)
    write_jsonl(Path("rows.jsonl"), rows)
    for suffix, dialect in {"csv": "excel", "tsv": "excel-tab"}.items():
        with Path(f"rows.{suffix}").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), dialect=dialect)
            writer.writeheader()
            writer.writerows(rows)
    _write_parquet(rows)
    lines = [str(row["text"]) for row in labelled(200)]
    Path("plain.txt").write_text("\n".join(lines), encoding="utf-8")


def _write_parquet(rows: list[dict[str, object]]) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), "rows.parquet")


def _make_runs() -> None:
    _done("train", *TINY, "--out=run")
    _done("extract", "run", "--out=cut")
    shutil.copytree("run", "half")
    unfinished(Path("half"))
    for name in ("weights.safetensors", "statistics.safetensors", "frontier.json"):
        Path("half", name).unlink()
    _done("train", *TEXTS, "--data=plain.txt", "--out=texts")
    _done("generate", "texts", "--calibrate")
    _done("extract", "texts", "--out=text-cut")
    shutil.copytree("text-cut", "stock")
    for name in ("sortednet.json", "README.md", "check.safetensors"):
        Path("stock", name).unlink(missing_ok=True)
    shutil.copyfile("run/spec.toml", "mine.toml")
    Path("labels.toml").write_text(LABELS, encoding="utf-8")
