"""Text comes in whole letters, and ends before a stop string."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerBase

from sortednet_cli.data.text.tokenizer import train_tokenizer
from sortednet_cli.engine.generation.text import TextStream

TEXT = "naïve café — 日本語 🙂 end. Question: what?\n  indented\tx"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["plain words only"], "causal-lm", vocab_size=270, max_length=64)


def test_pieces_join_to_the_text(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    pieces = list(TextStream(tokenizer).pieces(ids))
    assert "".join(pieces) == TEXT
    assert len(pieces) > 20
    assert not any("�" in piece for piece in pieces)


@pytest.mark.parametrize("stop", ["Question:", "—", " end", "🙂 end. Q"])
def test_a_stop_string_never_shows(tokenizer: PreTrainedTokenizerBase, stop: str) -> None:
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    stream = TextStream(tokenizer, [stop, "not there"])
    assert "".join(stream.pieces(ids)) == TEXT[: TEXT.index(stop)]
    assert stream.stopped


def test_half_a_stop_string_at_the_end_is_text(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("so far Quest", add_special_tokens=False)["input_ids"]
    stream = TextStream(tokenizer, ["Question:"])
    assert "".join(stream.pieces(ids)) == "so far Quest"
    assert not stream.stopped


def test_half_a_letter_at_the_end_is_kept(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("a🙂", add_special_tokens=False)["input_ids"][:-1]
    assert "".join(TextStream(tokenizer).pieces(ids)).startswith("a")
