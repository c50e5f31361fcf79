"""Folders of texts: which file is which part, what is told, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from sortednet_cli.data.text.locate import locate
from sortednet_cli.errors import RequestError
from sortednet_cli.spec import TextDataSpec

CARD = "# A card\n"


def table(*texts: str) -> str:
    return "text,label\n" + "".join(f"{text},{i % 2}\n" for i, text in enumerate(texts))


def found(root: Path, files: Mapping[str, str], task: str = "causal-lm") -> dict[str, list[str]]:
    """The first texts of each part that a folder of these files gives."""
    folder = root / "set"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    _, tables = locate(TextDataSpec(source="text", path=str(folder)), task)
    return {part: table.columns["text"] for part, table in tables.items()}


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (("train", "val"), ("train", "test")),
        (("training", "valid", "testing"), ("train", "validation", "test")),
        (("Train", "DEV", "TEST"), ("train", "validation", "test")),
        (("train", "validation", "test"), ("train", "validation", "test")),
    ],
)
def test_names_of_parts(tmp_path: Path, files: tuple[str, ...], parts: tuple[str, ...]) -> None:
    written = {f"{name}.csv": table(name, "b") for name in files}
    expected = {part: [name, "b"] for part, name in zip(parts, files, strict=True)}
    assert found(tmp_path, written) == expected


def test_names_of_parts_are_those_of_images_too() -> None:
    from sortednet_cli.data.part_names import part_named

    assert [part_named(name) for name in ("Val", "training", "testing", "extra")] == [
        "validation",
        "train",
        "test",
        None,
    ]


def test_what_is_not_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    others = dict.fromkeys(["extra.csv", "notes.txt", "old/train.jsonl.gz"], "x")
    quiet = dict.fromkeys(["README.md", "LICENSE.txt", "test.py", ".cache/x.csv"], "x")
    files = {"train.csv": table("a"), **others, **quiet, "dataset_infos.json": "{}"}
    assert found(tmp_path, files) == {"train": ["a"]}
    assert caplog.messages == ["set: not read: extra.csv, notes.txt, old/train.jsonl.gz"]


SHARDS = {f"data/train-0000{i}-of-00002-0af3.csv": table(f"row {i}") for i in (1, 0)}


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (
            {**SHARDS, "data/test-00000-of-00001.csv": table("t")},
            {"train": ["row 0", "row 1"], "test": ["t"]},
        ),
        (
            {f"default/{part}/000{i}.csv": table(f"{part} {i}")
             for part in ("train", "validation", "test") for i in (0, 1)},
            {part: [f"{part} 0", f"{part} 1"] for part in ("train", "validation", "test")},
        ),
        (
            {f"data/only/train/{i}.csv": table(str(i)) for i in range(1, 12)},
            {"train": [str(i) for i in range(1, 12)]},
        ),
        ({"train/b.csv": table("b"), "train/a.csv": table("a")}, {"train": ["a", "b"]}),
        (
            {"train/train.csv": table("a"), "val/val.csv": table("b")},
            {"train": ["a"], "test": ["b"]},
        ),
    ],
)  # fmt: skip
def test_snapshots_of_a_hub(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    files: dict[str, str],
    parts: dict[str, list[str]],
) -> None:
    around = {
        "README.md": CARD,
        "README_zh.md": CARD,
        "train.py": "x",
        ".gitattributes": "x",
        ".cache/huggingface/a.csv": "x",
    }
    assert found(tmp_path, {**files, **around}) == parts
    assert not caplog.messages


def test_a_row_of_a_shard_is_named_by_its_file(tmp_path: Path) -> None:
    files = {**SHARDS, "data/train-00001-of-00002-0af3.csv": "text\nno label\n"}
    found(tmp_path, files)
    _, tables = locate(TextDataSpec(source="text", path=str(tmp_path / "set")), "causal-lm")
    assert tables["train"].location(0) == "data/train-00000-of-00002-0af3.csv, line 2"
    assert tables["train"].location(1) == "data/train-00001-of-00002-0af3.csv, line 2"
    assert tables["train"].columns["label"] == ["0", None]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (dict(list(SHARDS.items())[:1]), "the part is incomplete: number 0 is missing"),
        ({**SHARDS, "data/train-00001-of-00002-77.csv": table("a")}, "more than one set of files"),
        ({**SHARDS, "data/train-00000-of-00003.csv": table("a")}, "more than one set of files"),
        ({"train/0.csv": table("a"), "train/2.csv": table("a")}, "number 1 is missing"),
        ({"train/0.csv": table("a"), "train/1.tsv": table("a")}, "tables of several kinds"),
        ({"train.csv": table("a"), "training.tsv": table("a")}, "more than one file for a part"),
        ({"train.csv": table("a"), "train/0.csv": table("a")}, "more than one file for a part"),
        ({"train.csv": table("a"), "dev.csv": "", "val.csv": ""}, "for a part: dev.csv, val.csv"),
        (
            {f"{name}/train-00000-of-00001.csv": table("a") for name in ("cola", "sst2")},
            "holds several data sets, cola, sst2: name one, as --data .*set/cola",
        ),
        ({"reviews.csv": table("a")}, "other names, reviews.csv: .*set/reviews.csv"),
        ({"LICENSE.txt": "x"}, "only LICENSE.txt, README.md: to train on that, name the file"),
        ({"test.csv": table("a"), "a.txt": "x"}, "has test.csv, but no train file"),
        ({"train.xlsx": "x"}, "train.xlsx has an unknown suffix; the suffixes are .csv"),
        (
            {"train/data-00000-of-00001.arrow": "x", "train/state.json": "{}"},
            "arrow has an unknown suffix",
        ),
    ],
)  # fmt: skip
def test_folders_that_are_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        found(tmp_path, {**files, "README.md": CARD})


def test_plain_texts_of_a_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {"README.md": CARD, "training.md": "how to", "b/a.rst": "more", "empty.txt": " \n"}
    assert found(tmp_path, {**files, "index.csv": "x"}) == {"train": [CARD, "more", "how to"]}
    assert caplog.messages == [
        "set: reading 4 plain texts, including README.md, training.md",
        "set: skipped empty files: empty.txt",
        "set: not read: index.csv",
    ]


def test_a_linked_part_and_a_folder_that_links_to_itself(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "0.csv").write_text(table("a"))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "set")
    assert found(tmp_path, {})["train"] == ["a"]


def test_held_out_parts_without_labels_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = {"train.csv": table("a", "b"), "dev.csv": table("c"), "test.csv": "text,label\nd,-1\n"}
    assert found(tmp_path, files, "classification") == {"train": ["a", "b"], "test": ["c"]}
    assert caplog.messages == ["test.csv is not used: its labels are not public"]


class _Rows:
    """A split as the package `datasets` has it."""

    def __init__(self, texts: list[str], labels: list[int]) -> None:
        self._columns: dict[str, list[Any]] = {"text": texts, "label": labels}
        self.column_names = list(self._columns)
        self.features = {"text": object(), "label": SimpleNamespace(names=["neg", "pos"])}

    def __getitem__(self, name: str) -> list[Any]:
        return self._columns[name]

    def __len__(self) -> int:
        return len(self._columns["text"])


def test_splits_of_a_hub(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    splits = {
        "train": _Rows(["a"], [0]),
        "validation_matched": _Rows(["b"], [0]),
        "dev": _Rows(["c"], [1]),
        "test": _Rows(["d"], [-1]),
    }
    fake = ModuleType("datasets")
    fake.load_dataset = lambda name, config: splits  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)
    name, tables = locate(TextDataSpec(source="hub", path="a/b"), "classification")
    assert name == "a/b" and {part: t.columns["text"] for part, t in tables.items()} == {
        "train": ["a"],
        "test": ["c"],
    }
    assert tables["train"].class_names == {"label": ("neg", "pos")}
    assert caplog.messages == [
        "a/b: splits not read: validation_matched",
        "a/b test is not used: its labels are not public",
    ]
