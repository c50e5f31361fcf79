"""Tables as people have them: what each kind of file gives, and what is refused or told."""

from __future__ import annotations

import codecs
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from sortednet_cli.data.text import raw
from sortednet_cli.data.text.files import read_file
from sortednet_cli.data.text.records import read_records
from sortednet_cli.data.text.table import Table
from sortednet_cli.errors import RequestError
from sortednet_cli.spec import TextDataSpec

CSV = "text,label\ngood film,1\nbad film,0\n"
ROWS = [{"text": "good film", "label": 1}, {"text": "bad film", "label": 0}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def read(folder: Path, name: str, content: str | bytes) -> Table:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_file(file)


def classes(*tables: Table, known: tuple[str, ...] | None = None, **keys: Any) -> tuple[str, ...]:
    """Classes of a training table, the others being held out."""
    spec = TextDataSpec(source="text", **keys)
    parts = dict(zip(("train", "validation", "test"), tables, strict=False))
    return read_records(parts, spec, "classification", known)[1]  # type: ignore[arg-type]


def labelled(*labels: object) -> Table:
    """A table with these labels."""
    texts = [f"text {i}" for i in range(len(labels))]
    return Table("a.jsonl", {"text": texts, "label": list(labels)}, range(2, len(labels) + 2))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("a.csv", codecs.BOM_UTF8 + CSV.replace("\n", "\r\n").encode()),
        ("a.csv", CSV + "\n   \n\r\n"),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("a.tsv", CSV.replace(",", "\t")),
        ("A.TSV.GZ", gzip.compress(CSV.replace(",", "\t").encode(), mtime=0)),
        ("a.jsonl", LINES),
        ("a.ndjson", LINES + "\n"),
        ("a.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("a.json", LINES),
        ("a.json", json.dumps(ROWS)),
        ("a.json", codecs.BOM_UTF8 + json.dumps(ROWS, indent=1).encode()),
        ("a.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0)),
    ],
)
def test_every_kind_of_table_gives_the_same_rows(
    tmp_path: Path, name: str, content: str | bytes
) -> None:
    table = read(tmp_path, name, content)
    assert table.texts("text", "text") == ["good film", "bad film"]
    assert list(map(str, table.column("label", "label"))) == ["1", "0"]
    assert classes(table) == ("0", "1")


def test_a_packed_text_is_a_document(tmp_path: Path) -> None:
    table = read(tmp_path, "a.txt.gz", gzip.compress(b"one\r\ntwo", mtime=0))
    assert table.plain and table.columns == {"text": ["one\r\ntwo"]}


def test_fields_in_quotes_keep_their_line_ends(tmp_path: Path) -> None:
    table = read(tmp_path, "a.csv", 'text,label\r\n"one\r\ntwo, ""three""",1\r\nfour,0\r\n')
    assert table.columns["text"] == ['one\r\ntwo, "three"', "four"]
    assert table.location(1) == "a.csv, line 4"


def test_columns_without_a_name_do_not_matter(tmp_path: Path) -> None:
    table = read(tmp_path, "a.csv", ",text,label,\n0,a,1,\n1,b,0,\n")
    assert table.columns["text"] == ["a", "b"] and table.columns["label"] == ["1", "0"]


PANDAS = 'text\tlabel\n"say ""no"""\t1\n"two\nlines"\t0\n'


@pytest.mark.parametrize(
    ("content", "texts", "told"),
    [
        (PANDAS, ['say "no"', "two\nlines"], True),
        (PANDAS.replace("\n", "\r\n"), ['say "no"', "two\r\nlines"], True),
        ('text\tlabel\n"""Hi."""\t1\nb\t0\n', ['"Hi."', "b"], True),
        ('"text"\t"label"\n"a b"\t"1"\n', ["a b"], True),
        ('text\tlabel\n"Hi ."\t1\n', ['"Hi ."'], False),
        ('text\tlabel\n"Hi ." he said\t1\n"two\t0\n', ['"Hi ." he said', '"two'], False),
        ('text\tlabel\nan "odd\t1\n', ['an "odd'], False),
    ],
)
def test_quotes_in_tab_separated_values(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str, texts: list[str], told: bool
) -> None:
    assert read(tmp_path, "a.tsv", content).columns["text"] == texts
    assert ("quoted fields are read as pandas" in caplog.text) == told


def test_a_table_with_two_readings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"ambiguous: 1 rows if fields are quoted.* or 2 if"):
        read(tmp_path, "a.tsv", 'text\tlabel\n"Hi , he said\t1\nto all ."\t0\n')


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", CSV.encode("utf-16"), "a.csv is UTF-16: save it as UTF-8"),
        ("a.txt", CSV.encode("utf-32"), "a.txt is UTF-32: save it as UTF-8"),
        ("a.csv", CSV.encode("utf-16-le"), "line 1: a NUL byte.* if the file is UTF-16"),
        ("a.csv", f"{CSV}caf\xe9,1\n".encode("latin-1"), r"line 4: not valid UTF-8 \(byte 0xe9\)"),
        ("a.csv", CSV.replace("\n", "\r"), "only with carriage returns"),
        ("a.csv", f"{CSV}a\rb,1\n", "line 4: a carriage return outside quotes"),
        ("a.csv", CSV.replace(",", ";"), "'text;label'.* by semicolons; save it with commas"),
        ("a.csv", CSV.replace(",", "\t"), r"separated by tabs; name it \.tsv"),
        ("a.tsv", CSV, r"separated by commas; name it \.csv"),
        ("a.csv", "text,label,text\na,1,b\n", "two columns of one name: text"),
        ("a.csv", ",,\n,,\n", "a.csv is empty: its fields hold nothing"),
        ("a.csv", '"",""\n', "a.csv is empty: its fields hold nothing"),
        ("a.tsv", '""\t""\n', "has two columns of one name|has no rows"),
        ("a.csv.gz", CSV.encode(), r"a\.csv\.gz is not a gzip file"),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:-9], "truncated or damaged"),
        ("a.json", json.dumps({"data": ROWS}), "save the value of data as a file of its own"),
        ("a.json", '"text"', "is not an array of objects"),
        ("a.json", "[1, 2]", "row 1: not a JSON object"),
        ("a.json", '[{"text": "a"},\n{"text"', "line 2: not valid JSON: Expecting"),
        ("a.json", "[" * 100_000, "not valid JSON: nested too deep"),
        (
            "a.jsonl",
            f'{LINES}{{"text": "a", "text": "b"}}\n',
            "line 3.* repeats a key, one of text",
        ),
        ("a.jsonl", '{"label": %s}\n' % ("9" * 5000), "line 1.* a number with too many digits"),
    ],
)
def test_files_that_are_refused(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        read(tmp_path, name, content)


def test_a_small_file_of_very_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "FREE_GROWTH", 1 << 20)
    with pytest.raises(RequestError, match=r"a\.csv\.gz unpacks to more than 200 times its size"):
        read(tmp_path, "a.csv.gz", gzip.compress(b"text\n" + b"a\n" * (1 << 20), 9, mtime=0))


def test_a_line_of_a_value_is_bounded_too(tmp_path: Path) -> None:
    table = read(tmp_path, "a.json", json.dumps([{"text": "a"}, {"text": "x" * 1_000_001}]))
    with pytest.raises(RequestError, match=r"a\.json, row 2: text has a line longer"):
        table.texts("text", "text")


# ---- labels


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ((10, 9, 0), ("0", "9", "10")),
        (("10", "9", "0"), ("0", "9", "10")),
        ((True, False), ("False", "True")),
        ((10**40, 2), ("2", str(10**40))),
        (("9" * 900, "10"), ("10", "9" * 900)),
        (("b", "10", "9"), ("10", "9", "b")),
        (("1.10", "1.1"), ("1.1", "1.10")),
        (("None", "some"), ("None", "some")),
    ],
)
def test_classes_are_the_labels_in_order(
    labels: tuple[object, ...], expected: tuple[str, ...]
) -> None:
    assert classes(labelled(*labels)) == expected


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("a", ""), r"a\.jsonl, line 3: label is empty"),
        (("a", " \u00a0\t"), "line 3: label is empty"),
        (("a", None), "line 3: label is empty"),
        (("a", "b", " a"), r"look alike, 'a' \(a\.jsonl, line 2\) and ' a' \(a\.jsonl, line 4\)"),
        (("caf\u00e9", "tea", "cafe\u0301"), r"'caf\\xe9' \(.* 2\) and 'cafe\\u0301' \(.* line 4"),
        ((1, "1.0"), "'1' .* and '1.0'"),
        (("7", "007"), "'7' .* and '007'"),
        ((0, 1.0), "line 3: label must be text or an integer, not float: write integers"),
        ((0, [1]), "line 3: label must be text or an integer, not list"),
        ((0, {"a": 1}), "must be text or an integer, not dict"),
        ((0, "\ud83d"), "line 3: label holds half a character"),
        ((0, "x" * 2000), "line 3: label has 2,000 characters"),
        ((1, 1, "1"), "a.jsonl: label has only one class: 1"),
    ],
)
def test_labels_that_are_refused(labels: tuple[object, ...], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        classes(labelled(*labels))


def test_labels_that_are_told(caplog: pytest.LogCaptureFixture) -> None:
    assert classes(labelled("Yes", "no", "yes")) == ("Yes", "no", "yes")
    assert classes(labelled("0.0", "1.0")) == ("0.0", "1.0")
    first, second = (record.getMessage() for record in caplog.records)
    assert first == "a.jsonl, line 4: 'yes' differs from 'Yes' only in case: they are two classes"
    assert second.startswith("a.jsonl: label holds decimal numbers; each, such as 0.0, is")


def test_numbers_and_digits_are_one_label_over_the_parts() -> None:
    assert classes(labelled(0, 1), labelled("1"), labelled(0)) == ("0", "1")


def test_what_looks_like_a_class_and_is_none() -> None:
    with pytest.raises(RequestError, match=r"'Pos' is not one of .*; 'pos' looks like 'Pos'"):
        classes(labelled("pos", "neg"), labelled("Pos"))
    with pytest.raises(RequestError, match=r"of the model: .*'\\xe9t\\xe9' looks like"):
        classes(labelled("e\u0301te\u0301"), known=("\u00e9t\u00e9", "hiver"))
    with pytest.raises(RequestError, match=r"no column 'label' \(data\.label\).* ' Label' looks"):
        classes(Table("a.csv", {"text": ["a"], " Label": ["1"]}, [2]))


def test_an_empty_text_has_no_class() -> None:
    table = Table("a.csv", {"text": ["a", " ", "b", ""], "label": [0, 1, 1, 0]}, range(2, 6))
    with pytest.raises(RequestError, match=r"a\.csv, line 3: the text is empty, as in 2 of 4 rows"):
        classes(table)
    table.columns["second"] = ["c"] * 4  # one text of a pair may be empty
    assert classes(table, pair="second") == ("0", "1")


@pytest.mark.parametrize("task", ["causal-lm", "answers"])
def test_empty_texts_are_left_out_and_told(task: str, caplog: pytest.LogCaptureFixture) -> None:
    columns = {"text": ["a", "", "b"], "question": ["a", " ", "b"], "answer": ["c", "d", "e"]}
    tables = {"train": Table("a.csv", columns, range(2, 5))}
    spec = TextDataSpec(source="text")
    found, _ = read_records(tables, spec, task, None)  # type: ignore[arg-type]
    assert found["train"].texts == ["a", "b"]
    assert found["train"].seconds == (["c", "e"] if task == "answers" else None)
    assert "a.csv: skipped 1 of 3 rows, the first a.csv, line 3" in caplog.text


# ---- the names that a file has for its numbers


def parquet_of(path: Path, labels: list[int], names: list[str] | None) -> Table:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"text": [f"text {i}" for i in labels], "label": labels})
    if names:
        feature = {"names": names, "_type": "ClassLabel"}
        facts = {"info": {"features": {"label": feature, "text": {"_type": "Value"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(facts)})
    parquet.write_table(table, path)
    return read_file(path)


def test_class_names_of_parquet(tmp_path: Path) -> None:
    named = parquet_of(tmp_path / "a.parquet", [0, 1, 1], ["positive", "negative", "neutral"])
    bare = parquet_of(tmp_path / "b.parquet", [0, 1, 1], None)
    assert classes(named) == ("positive", "negative", "neutral")
    assert classes(bare) == ("0", "1")
    # What a model or the training part knows by number stays a number.
    assert classes(bare, named) == classes(named, known=("0", "1")) == ("0", "1")


@pytest.mark.parametrize("facts", ["{", "[]", '{"info": {"features": {"label": 3}}}'])
def test_odd_metadata_of_parquet_does_no_harm(tmp_path: Path, facts: str) -> None:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"text": ["a", "b"], "label": [0, 1]})
    parquet.write_table(
        table.replace_schema_metadata({"huggingface": facts}), tmp_path / "a.parquet"
    )
    assert classes(read_file(tmp_path / "a.parquet")) == ("0", "1")


def test_missing_values_and_nested_ones_of_parquet(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    columns = {"text": ["a", None], "label": [1, None], "nested": [["a"], ["b"]]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    table = read_file(tmp_path / "a.parquet")
    for name, message in (
        ("text", "row 2: text must be text, not a missing value"),
        ("nested", "list"),
    ):
        with pytest.raises(RequestError, match=message):
            table.texts(name, "text")
    with pytest.raises(RequestError, match=r"a\.parquet, row 2: label is empty"):
        classes(table)
