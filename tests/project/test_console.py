"""Pages show what happens: their sessions run, and print lines of the form that is shown."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from sortednet_cli.data.text.tokenizer import train_tokenizer
from tests.data.made import tree_files, write_tree
from tests.project.console import UNPLAYED, Played, form, pages, play, sessions

PLAYED = [page for page in pages() if any(not session.why_not for session in sessions(page))]
FIRST = ("docs/tutorials/image-model.md", "docs/tutorials/language-model.md")
"""They begin in an empty folder. Most other pages go on from what they trained."""
ALONE = (
    "README.md",
    "docs/tutorials/your-own-model.md",
    "docs/cookbook/three-phones.md",
    "docs/cookbook/twenty-milliseconds.md",
    "docs/cookbook/one-llama.md",
)
"""They train what they need."""

SHORTER = f"""
python() {{ '{sys.executable}' "$@"; }}
sortednet() {{
    case "$*" in
        "train "*digits-resnet*) set -- "$@" --set train.updates=20 \\
            --set 'space.width=[0.40625,0.5,0.75,1]' --set 'space.depth=[1,4,8]' ;;
        "train "*pydoc-llama*) set -- "$@" --set train.updates=3 \\
            --set data.validation=0.01 --set data.test=0.01 ;;
        "train --config mine.toml"*) ;;
        "train "*sst2-*) set -- "$@" --set model.pretrained=path/to/bert \\
            --set train.updates=1 --set train.batch_size=4 --set data.max_length=32 \\
            --set 'space.width=[0.5,1]' --set 'space.depth=[1,3]' --set data.vocab_size=300 \\
            --set model.config.hidden_size=24 --set model.config.num_hidden_layers=3 \\
            --set model.config.num_attention_heads=6 --set model.config.intermediate_size=48 \\
            --set model.config.vocab_size=300 --set model.config.max_position_embeddings=40 ;;
        "train --config phones.toml"*) set -- "$@" --set train.updates=1 \\
            --set 'space.width=[0.25,0.5,1]' --set 'space.depth=[4,16]' ;;
        "train "*-llama*) set -- "$@" --set train.updates=1 --set train.batch_size=2 \\
            --set 'space.depth=[1,2]' --set data.vocab_size=300 --set data.max_length=32 ;;
        "train "*) set -- "$@" --set train.updates=1 --set train.batch_size=2 ;;
        "generate --prompt"*)
            [ -z "${{TEXTS-}}" ] || set -- generate "$TEXTS" "${{@:2}}" ;;
        "frontier "*--min-score*) set -- "${{@/%0.9/0.1}}" ;;
    esac
    command sortednet "$@"
}}
"""
"""A shell function that gives trainings fewer updates, and less to score; and a python of its own,
which has nothing imported."""

SAME = re.compile(r"extracted (?:w0\.5-d8|w0\.5-d4: 6|d4)|error: no sub-model|labels |0\.0$")
"""Lines that do not depend on the training: they are printed as they are shown."""
UNLIKE = {
    (FIRST[1], "--calibrate"): "an untrained model needs one exit, with a threshold",
    (FIRST[1], "early-exit"): "its tokens all leave there",
    (FIRST[1], "speculative"): "it drafts nothing, which tells no share of accepted drafts",
    ("docs/how-to/early-exit.md", "--calibrate"): "the same",
    ("docs/how-to/budgets-in-ci.md", "--max-latency-ms"): "times choose, on the frontier or not",
}
"""Commands that print other lines after a short training, or on another machine, by page."""


@pytest.fixture(scope="module")
def toured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Played]]]:
    """A folder with the runs of the first tutorials, and what these printed."""
    folder = tmp_path_factory.mktemp("toured")
    return folder, {page: play(page, folder, SHORTER, _env(folder)) for page in FIRST}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and checkpoints that pages take for granted, by their names."""
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

    root = tmp_path_factory.mktemp("stored")
    (root / ".local/share/bash-completion/completions").mkdir(parents=True)
    write_tree(root / "photos", tree_files({"train": 8, "test": 2}, size=16))
    moods = [(f"a {mood} film about number {n}", mood) for n in range(40) for mood in ("1", "5")]
    for name, header, end in (
        ("reviews/train.tsv", "review\tstars\tsentence\tlabel", "\n"),
        ("input.txt", "plain", " "),
    ):
        (root / name).parent.mkdir(exist_ok=True)
        rows = [f"{text}\t{mood}\t{text}\t{mood}" for text, mood in moods]
        (root / name).write_text("\n".join([header, *rows]) + end)
    (root / "faq").mkdir()
    rows = [f'{{"prompt": "{text}?", "reply": "{mood}"}}' for text, mood in moods]
    (root / "faq/train.jsonl").write_text("\n".join(rows))
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 6}
    bert = BertConfig(vocab_size=300, max_position_embeddings=40, intermediate_size=48, **sizes)
    BertModel(bert).save_pretrained(root / "path/to/bert")
    texts = [text for text, _ in moods]
    tokenizer = train_tokenizer(texts, "classification", vocab_size=300, max_length=32)
    tokenizer.save_pretrained(root / "path/to/bert")
    llama = LlamaConfig(vocab_size=300, intermediate_size=48, **sizes | {"num_hidden_layers": 4})
    LlamaForCausalLM(llama).save_pretrained(root / "path/to/checkpoint")
    return root


def _env(folder: Path) -> dict[str, str]:
    return {"SORTEDNET_CACHE": str(folder.parent / "cache"), "HF_HUB_OFFLINE": "1"}


@pytest.mark.parametrize("page", PLAYED)
def test_a_page_prints_what_it_shows(
    page: str, request: pytest.FixtureRequest, stored: Path, tmp_path: Path
) -> None:
    work, env = tmp_path / "work", {}
    if page not in ALONE:
        folder, printed = request.getfixturevalue("toured")
    if "/tutorials/" in page:
        work.mkdir()  # they begin in an empty folder
    else:
        shutil.copytree(stored, work)
    if page not in FIRST:
        if page not in ALONE:
            shutil.copytree(folder / "runs", work / "runs")
            shutil.copytree(work / "runs/digits-resnet", work / "runs/digits-resnet-2")
            # The newest run may be one of images, as examples of one page have it.
            env = {"TEXTS": "runs/pydoc-llama"}
        printed = {page: play(page, work, SHORTER, _env(work) | env)}
    for played in printed[page]:
        _as_shown(page, played)


def _as_shown(page: str, played: Played) -> None:
    words, lines = played.command.text, played.printed.splitlines()
    fails = any(line.startswith("error: ") for line in played.command.shown)
    assert (played.code != 0) == fails, played
    if any(page == one and option in words for one, option in UNLIKE):
        return
    forms = {form(line) for line in lines}
    for line in played.command.compared():
        assert line in lines if SAME.match(line) else form(line) in forms, (line, played)


def test_every_session_is_played_or_says_why_not() -> None:
    """And no reason is left over. `python -m tests.project.console` counts them."""
    found = [session for page in pages() for session in sessions(page)]
    assert len(found) > 80
    reasons = {session.why_not for session in found if session.why_not}
    assert reasons == set(UNPLAYED.values())
    for page, option in UNLIKE:
        commands = [c.text for session in sessions(page) for c in session.commands]
        assert any(option in text for text in commands), (page, option)


def test_lines_of_the_same_form() -> None:
    row = "w0.53125-d1  22.82k  371.3k               98.88%  0.0743  *"
    assert form(row) == form("w0.5-d4  1.2M 3.4M 9%  0.1  *") != form(row.replace("*", ""))
    assert form("artifacts/a-w0.5-d8") == "artifacts/a-#" != form("artifacts/b-w0.5-d8")
    assert form("wrote a.png") != form("wrote b.png")
