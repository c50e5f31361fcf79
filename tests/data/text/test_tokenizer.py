"""Tokenizers: trained ones give every text back, saved ones the same ids."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sortednet_cli.data.text.tokenizer import load_tokenizer, train_tokenizer
from sortednet_cli.errors import RequestError
from tests.data.text.made import CPU, opened, same, sentence

CORPUS = [sentence(i) for i in range(30)]
STRANGE = "Hello  wörld \r\n\t 日本 ! , it 's \x00 \u2028 😀\n\n  end "
TASKS = ("classification", "masked-lm", "causal-lm", "answers")
_TRAIN = (
    "import sys\n"
    "from sortednet_cli.data.text.tokenizer import train_tokenizer as t\n"
    "from tests.data.text.test_tokenizer import CORPUS\n"
    "made = t(CORPUS, 'masked-lm', vocab_size=320, max_length=16)\n"
    "sys.stdout.write(made.backend_tokenizer.to_str())\n"
)


@pytest.mark.parametrize("task", TASKS)
def test_texts_come_back_and_a_saved_tokenizer_gives_the_same_ids(
    task: str, tmp_path: Path
) -> None:
    made = train_tokenizer(CORPUS, task, vocab_size=290, max_length=16)
    made.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert len(made) == len(loaded) == 290 and loaded.model_max_length == 16
    for text in (*CORPUS, STRANGE, ""):
        ids = made(text, add_special_tokens=False, verbose=False)["input_ids"]
        assert made.decode(ids) == loaded.decode(ids) == text
        whole = made(text, verbose=False)["input_ids"]
        assert loaded(text, verbose=False)["input_ids"] == whole
        around = [made.cls_token_id, made.sep_token_id]
        if task in ("classification", "masked-lm"):
            assert whole == [around[0], *ids, around[1]]
        else:
            assert whole == [made.bos_token_id, *ids] and around == [None, None]
    assert None not in (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id)


def test_the_same_texts_give_the_same_tokenizer_in_every_process() -> None:
    other = subprocess.run([sys.executable, "-c", _TRAIN], capture_output=True, check=True).stdout
    here = train_tokenizer(CORPUS, "masked-lm", vocab_size=320, max_length=16)
    assert here.backend_tokenizer.to_str().encode() == other and b"merges" in other


def test_a_tokenizer_is_trained_on_the_training_part_alone(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("abc abc abd\n" * 40)
    (tmp_path / "test.txt").write_text("xyzzy xyzzy\n" * 40)
    from sortednet_cli.data import open_texts
    from tests.data.text.made import spec

    tokens = open_texts(spec(tmp_path), "causal-lm").tokenizer.get_vocab()
    assert "abc" in tokens and not any("xy" in token for token in tokens)


def test_a_given_tokenizer_is_used(tmp_path: Path) -> None:
    first = opened("causal-lm", tmp_path)
    first.tokenizer.save_pretrained(tmp_path / "saved")
    again = opened(
        "causal-lm", tmp_path, tokenizer=tmp_path / "saved", vocab_size=999, known=first.format
    )
    assert again.format == first.format
    assert same(next(again.test.batches(4, CPU)), next(first.test.batches(4, CPU)))


def test_lengths_stored_with_a_tokenizer_do_not_count(tmp_path: Path) -> None:
    first = opened("causal-lm", tmp_path)
    backend = first.tokenizer.backend_tokenizer
    backend.enable_truncation(2)
    backend.enable_padding(length=50)
    first.tokenizer.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved/tokenizer.json").read_text())["truncation"] is not None
    again = opened("causal-lm", tmp_path, tokenizer=tmp_path / "saved")
    assert again.train.num_targets == first.train.num_targets


def without(folder: Path, *roles: str) -> Path:
    """Take roles from a saved tokenizer, as many pretrained ones lack them."""
    path = folder / "tokenizer_config.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({key: v for key, v in stored.items() if key not in roles}))
    return folder


def test_the_end_token_pads_where_there_is_no_other(tmp_path: Path) -> None:
    first = opened("causal-lm", tmp_path)
    first.tokenizer.save_pretrained(tmp_path / "saved")
    saved = without(tmp_path / "saved", "pad_token", "bos_token")
    again = opened("causal-lm", tmp_path, tokenizer=saved)
    assert again.format.pad_id == again.format.eos_id == first.format.eos_id
    # What the tokenizer puts before a text decides, whatever roles it names.
    assert again.format.bos_id == first.format.bos_id
    inputs, targets = next(again.test.batches(99, CPU))
    assert (targets[-1, -1] == -100) and inputs["input_ids"][-1, -1] == first.format.eos_id


@pytest.mark.parametrize(
    ("task", "roles", "message"),
    [
        ("masked-lm", ["mask_token"], "masked-lm needs a tokenizer with a mask token"),
        ("masked-lm", ["pad_token"], "masked-lm needs a tokenizer with a pad token"),
        ("classification", ["pad_token"], "classification needs a tokenizer with a pad token"),
        ("causal-lm", ["pad_token", "eos_token"], "with a pad or an end token"),
    ],
)
def test_tokenizers_that_lack_what_the_task_needs(
    task: str, roles: list[str], message: str, tmp_path: Path
) -> None:
    opened(task, tmp_path).tokenizer.save_pretrained(tmp_path / "saved")
    with pytest.raises(RequestError, match=message):
        opened(task, tmp_path, tokenizer=without(tmp_path / "saved", *roles))


def test_folders_that_hold_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"holds no tokenizer: expected tokenizer\.json"):
        load_tokenizer(tmp_path)
    with pytest.raises(RequestError, match="holds no tokenizer"):
        load_tokenizer(tmp_path / "nowhere")
    train_tokenizer(CORPUS, "answers", vocab_size=300, max_length=16).save_pretrained(tmp_path)
    broken = shutil.copytree(tmp_path, tmp_path / "broken")
    (broken / "tokenizer.json").write_text("{")
    with pytest.raises(RequestError, match="cannot be read"):
        load_tokenizer(broken)
