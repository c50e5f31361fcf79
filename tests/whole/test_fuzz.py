"""Eighty cases of the fuzzer; values of every type against the parsers; what was found."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sortednet_cli.cli.options import read_axes, read_count
from sortednet_cli.errors import RequestError, plain
from sortednet_cli.space import SearchSpace, parse_count
from sortednet_cli.spec import load_preset, parse_spec
from sortednet_cli.storage.files import read_json
from sortednet_cli.storage.manifest import (
    ArtifactManifest,
    Counters,
    RunManifest,
    RunTable,
    check,
)
from tests.cli.test_bad_input import RUN, edit, unfinished
from tests.commands import TINY, command, listing, python, refused
from tests.torture.fuzz import table
from tests.torture.kinds import KINDS
from tests.torture.mutate import to_toml
from tests.torture.template import make_template

NUM_CASES = 80
SEED = 11
SETTINGS = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("fuzz") / "template")


@pytest.mark.parametrize("kind", list(KINDS))
def test_bad_input_ends_with_one_message(
    tmp_path: Path, template: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SORTEDNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # Not in this process: its autograd may have threads, and torch then forbids backward passes in
    # a fork of it.
    code = (
        "from pathlib import Path\n"
        "from tests.torture.fuzz import attack, cases\n"
        f"for kind, number in cases({NUM_CASES}):\n"
        f"    if kind == {kind!r}:\n"
        f"        template, place = Path({str(template)!r}), Path({str(tmp_path)!r})\n"
        f"        found = attack(kind, number, {SEED}, template, place)\n"
        "        assert found[-1] is None, (number, *found)\n"
    )
    python(code, Path(__file__).parents[2])


# ---- values of every type, in this process

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
_TABLES = ("name", "task", "model", "space", "train", "data")
_KEYS = st.sampled_from(
    [*_TABLES, "family", "config", "width", "depth", "source", "updates", "rule", "axes", "factory"]
)
_TREES = st.dictionaries(
    st.one_of(st.sampled_from(_TABLES), st.text(max_size=8)),
    st.one_of(_VALUES, st.dictionaries(_KEYS, _VALUES, max_size=5)),
    max_size=7,
)


def _only_told(error: RequestError) -> None:
    assert str(error).strip()
    assert all(char.isprintable() or char == "\n" for char in plain(str(error)))


@SETTINGS
@given(_TREES)
def test_any_tree_is_a_spec_or_told(tree: dict[str, Any]) -> None:
    text = to_toml(tree).decode(errors="replace")
    try:
        parse_spec(text, where="mine.toml", name="mine")
    except RequestError as error:
        _only_told(error)


@SETTINGS
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_override_is_set_or_told(key: str, value: str) -> None:
    for path in (key, "train.lr", "space.width", "model.config.channels", "data.source", "name"):
        try:
            load_preset("digits-resnet", [f"{path}={value}"])
        except RequestError as error:
            _only_told(error)


@SETTINGS
@given(st.text(max_size=30))
def test_any_text_is_a_number_or_told(text: str) -> None:
    for read in (parse_count, lambda t: read_count("--max-params", t)):
        try:
            assert read(text) >= 0
        except RequestError as error:
            _only_told(error)
    try:
        axes = read_axes(None, None, [text, f"width={text}"])
        SearchSpace.of({"width": (0.5, 1.0)}).resolve(axes)
    except RequestError as error:
        _only_told(error)


@SETTINGS
@given(_VALUES)
def test_any_json_is_a_manifest_or_told(tmp_path: Path, value: Any) -> None:
    file = tmp_path / "run.json"
    file.write_bytes(json.dumps(value).encode(errors="surrogatepass"))
    for model in (RunManifest, RunTable, ArtifactManifest, Counters):
        try:
            check(read_json(file), file, model)
        except RequestError as error:
            _only_told(error)


# ---- what the fuzzer has found, each by its cause


def test_a_list_for_a_name(work: Path) -> None:
    refused(command("train", *TINY, "--set=data.source=[1]"), 2, "unknown source [1]")
    refused(command("train", *TINY, "--set=model.family=[1]"), 2, "unknown family [1]")


def test_a_name_that_no_file_can_have(home: Path) -> None:
    long = "x" * 5000
    before = listing(home)
    for arguments in (
        ["eval", long],
        ["info", long],
        ["train", "--resume", long],
        ["train", *TINY, f"--out={long}"],
        ["train", f"--config={long}"],
        ["extract", f"--out={long}"],
        ["frontier", f"--plot={long}.svg"],
        ["generate", f"--prompt-file={long}"],
        ["eval", f"--data={long}"],
    ):
        refused(command(*arguments), 2)
    refused(command("train", *TINY, '--set=data.path="a\\u0000b"'), 2, "data.path")
    assert listing(home) == before


def test_a_path_of_links_in_a_circle(work: Path) -> None:
    Path("loop").symlink_to("loop")
    start = ("train", *TINY, "--set=data.source=image-folder")
    refused(command(*start, "--data=loop"), 2, "data.path")


@pytest.mark.parametrize("count", [0, -1, -5])
def test_a_network_of_no_blocks(home: Path, count: int) -> None:
    edit(RUN / "run.json", "root", "config", "blocks", value=[count])
    refused(command("eval", RUN), 2, f"{count} blocks")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ('stem_channels=""', "model.config.stem_channels: must be a whole number"),
        ("stem_channels=0", "leaves no channel of 0"),
        ("channels=[0]", "leaves no channel of 0"),
    ],
)
def test_an_entry_that_only_a_cut_looks_at(work: Path, setting: str, said: str) -> None:
    refused(command("train", *TINY, f"--set=model.config.{setting}"), 2, said)


def test_messages_of_torch_are_one_line(home: Path) -> None:
    edit(RUN / "run.json", "root", "config", "channels", value=[10**30])
    done = command("eval", RUN)
    refused(done, 2, "refused it: ")
    assert done.err.count("\n") == 1


def test_a_log_that_is_no_log(home: Path) -> None:
    unfinished()
    with (RUN / "metrics.jsonl").open("ab") as file:
        file.write(b'{"update": 1e999}\n' + b"[" * 100_000 + b"\n\xff\xfe\n")
    assert command("train", "--resume", RUN, "--quiet").code == 0


def test_the_parent_is_one_thread() -> None:
    """Forks of a process with more would hang now and then."""
    assert torch.get_num_threads() == 1
    assert os.environ.get("TOKENIZERS_PARALLELISM") != "true"


def test_the_last_full_run_found_nothing() -> None:
    """The committed run, and the table of it in the docs."""
    root = Path(__file__).parents[2]
    result = json.loads((root / "benchmarks/results/torture_fuzz.json").read_text())
    assert result["cases"] >= 2000
    assert set(result["kinds"]) == set(KINDS)
    assert result["failures"] == 0
    assert any(table(result) in page.read_text() for page in root.glob("docs/**/*.md"))
