"""Phrases of the training texts: what follows each, which are kept, and their file."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from random import Random

import pytest
import torch
from torch import Generator, Tensor

from sortednet_cli.data.text import phrases as module
from sortednet_cli.data.text.parts import Batch, TextPart
from sortednet_cli.data.text.phrases import repeated_phrases
from sortednet_cli.data.text.ragged import IGNORED
from sortednet_cli.errors import RequestError
from sortednet_cli.storage.phrases import (
    LONGEST,
    Continuations,
    Phrases,
    read_phrases,
    write_phrases,
)
from sortednet_cli.storage.tensor_writer import write_tensors

VOCABULARY = 5


class Given(TextPart):
    """Windows of inputs and targets."""

    def __init__(self, windows: list[tuple[list[int], list[int]]]) -> None:
        self._inputs, self._targets = (
            torch.tensor(tokens) for tokens in zip(*windows, strict=True)
        )

    def __len__(self) -> int:
        return len(self._inputs)

    def make_batch(self, indices: Tensor, generator: Generator | None) -> Batch:
        return {"input_ids": self._inputs[indices]}, self._targets[indices]


def windows(count: int, length: int = 12) -> list[tuple[list[int], list[int]]]:
    """Random texts of a small vocabulary, a third of whose targets are not scored."""
    random = Random(0)
    made = []
    for _ in range(count):
        text = [
            min(random.randrange(VOCABULARY), random.randrange(VOCABULARY))
            for _ in range(length + 1)
        ]
        made.append((text[:-1], [IGNORED if random.random() < 0.3 else t for t in text[1:]]))
    return made


def counted(texts: list[tuple[list[int], list[int]]]) -> dict[tuple[int, ...], Counter[int]]:
    """Count by loops what follows each phrase within a window."""
    found: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for inputs, targets in texts:
        for place, target in enumerate(targets):
            for size in range(1, min(LONGEST, place + 1) + 1):
                if target != IGNORED:
                    found[tuple(inputs[place + 1 - size : place + 1])][target] += 1
    return found


def by_phrase(phrases: Phrases) -> dict[tuple[int, ...], tuple[int, float]]:
    rows = [tuple(token for token in row if token >= 0) for row in phrases.phrases.tolist()]
    assert len(set(rows)) == len(rows)
    return dict(
        zip(rows, zip(phrases.tokens.tolist(), phrases.shares.tolist(), strict=True), strict=True)
    )


def test_each_repeated_phrase_has_its_likeliest_next_token() -> None:
    texts = windows(300)
    found, wanted = by_phrase(repeated_phrases(Given(texts), VOCABULARY)), counted(texts)
    assert set(found) == {row for row, after in wanted.items() if max(after.values()) >= 2}
    assert {len(row) for row in found} == set(range(1, LONGEST + 1))
    for row, (token, share) in found.items():
        after = wanted[row]
        assert after[token] == max(after.values())
        assert share == pytest.approx(after[token] / (after.total() + 1.5))


def test_the_most_frequent_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = windows(300)
    whole = repeated_phrases(Given(texts), VOCABULARY)
    monkeypatch.setattr(module, "_MOST_PHRASES", 20)
    kept, counts = by_phrase(repeated_phrases(Given(texts), VOCABULARY)), counted(texts)
    assert len(kept) == 20 < len(whole)
    least = min(max(counts[row].values()) for row in kept)
    others = set(by_phrase(whole)) - set(kept)
    assert all(max(counts[row].values()) <= least for row in others)


def test_texts_that_repeat_nothing_have_none() -> None:
    assert len(repeated_phrases(Given([([0, 1, 2], [1, 2, 3])]), VOCABULARY)) == 0
    assert len(repeated_phrases(Given([([0, 1], [IGNORED] * 2)] * 3), VOCABULARY)) == 0


def test_windows_of_several_lengths_and_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are padded to their own longest text; counting ends after enough targets."""
    short, long = windows(3, 4), windows(3, 9)

    class Both(Given):
        def __init__(self) -> None:
            self._parts = [Given(short), Given(long)]

        def __len__(self) -> int:
            return 6

        def make_batch(self, indices: Tensor, generator: Generator | None) -> Batch:
            part = self._parts[int(indices[0]) // 3]
            return part.make_batch(indices % 3, generator)

    monkeypatch.setattr(module, "_BATCH", 3)
    rows = set(by_phrase(repeated_phrases(Both(), VOCABULARY)))
    assert rows == {row for row, after in counted(short + long).items() if max(after.values()) > 1}
    monkeypatch.setattr(module, "_MOST_TARGETS", 1)
    rows = set(by_phrase(repeated_phrases(Both(), VOCABULARY)))
    assert rows == {row for row, after in counted(short).items() if max(after.values()) > 1}


def test_the_longest_phrase_that_ends_a_text_counts() -> None:
    rows = torch.tensor([[-1] * 5 + [3], [-1] * 4 + [2, 3], [1, 1, 1, 1, 2, 3]])
    known = Continuations(Phrases(rows, torch.tensor([7, 8, 9]), torch.tensor([0.5, 0.25, 0.75])))
    assert known.after([3]) == known.after([9, 3]) == (7, 0.5)
    assert known.after([4, 2, 3]) == (8, 0.25)
    assert known.after([0, 1, 1, 1, 1, 2, 3]) == (9, 0.75)
    assert known.after([3, 2]) is None
    assert known.after([]) is None
    assert Continuations().after([3]) is None


def test_the_file(tmp_path: Path) -> None:
    assert read_phrases(tmp_path, VOCABULARY) is None
    phrases = repeated_phrases(Given(windows(50)), VOCABULARY)
    write_phrases(tmp_path, phrases)
    again = read_phrases(tmp_path, VOCABULARY)
    assert again is not None
    assert by_phrase(again) == by_phrase(phrases)
    with pytest.raises(RequestError, match=r"phrases.safetensors names a token that the model"):
        read_phrases(tmp_path, VOCABULARY - 1)
    for size in ((), (3,), (3, 0), (4, 2)):
        tensors = {"phrases": torch.zeros(size), "tokens": torch.zeros(3), "shares": torch.ones(3)}
        write_tensors(tmp_path / "phrases.safetensors", tensors)
        with pytest.raises(RequestError, match=r"phrases.safetensors is damaged: it does not hold"):
            read_phrases(tmp_path, VOCABULARY)
    (tmp_path / "phrases.safetensors").write_bytes(b"no")
    with pytest.raises(RequestError, match=r"phrases.safetensors"):
        read_phrases(tmp_path, VOCABULARY)
