"""Text comes in whole letters, and ends before a stop string."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

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


def test_the_name_of_a_special_token_is_a_stop(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("so far Quest<|end|> more", add_special_tokens=False)["input_ids"]
    stream = TextStream(tokenizer, ["Question:", "<|end|>"])
    assert "".join(stream.pieces(ids)) == "so far Quest"
    assert stream.stopped
    assert "".join(TextStream(tokenizer, ["<|pad|>"]).pieces(ids)) == "so far Quest more"


def test_bytes_that_are_no_letters_do_not_wait_for_ever(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    whole = tokenizer("🙂é", add_special_tokens=False)["input_ids"]
    letter = tokenizer("a", add_special_tokens=False)["input_ids"]
    ids = [whole[1]] * 200 + whole + whole[:3] * 40 + (letter + [whole[1]] * 5) * 40 + whole
    stream = TextStream(tokenizer)
    pieces = [stream.push(token) for token in ids]
    assert "".join(pieces) + stream.end() == tokenizer.decode(ids)
    assert "".join(pieces).endswith("🙂é")
    assert len("".join(pieces[:200])) > 180
    assert len(stream._window) < 32


def test_half_a_letter_at_the_end_is_kept(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("a🙂", add_special_tokens=False)["input_ids"][:-1]
    assert "".join(TextStream(tokenizer).pieces(ids)).startswith("a")


def test_letters_of_byte_tokens_are_whole() -> None:
    """As of LLaMA 2: its decoder shows a whole run of bytes as wrong if one letter is cut."""
    letters = ["a", "\u2581"]
    vocab = {word: n for n, word in enumerate([f"<0x{n:02X}>" for n in range(256)] + letters)}
    model = Tokenizer(BPE(vocab, [], byte_fallback=True))
    model.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model)
    text = "日本語日本語🙂🙂🙂 a"
    ids = tokenizer(text.replace(" ", "\u2581"), add_special_tokens=False)["input_ids"]
    assert len(ids) == 6 * 3 + 3 * 4 + 2
    stream = TextStream(tokenizer)
    assert list(stream.pieces(ids)) == list(text)
    assert len(stream._window) < 12  # else long texts would be decoded again and again
