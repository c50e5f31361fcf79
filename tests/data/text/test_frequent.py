"""The most frequent targets: which are counted, and when there are too many."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from sortednet_cli.data import open_texts
from sortednet_cli.data.text.frequent import SHARE, frequent_tokens
from sortednet_cli.data.text.parts import Batch, TextPart
from sortednet_cli.data.text.ragged import IGNORED
from sortednet_cli.errors import RequestError
from sortednet_cli.storage.frequent_tokens import read_frequent, write_frequent
from tests.data.text.made import CPU, spec, write_jsonl


def test_the_fewest_targets_that_make_up_the_share(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"question": "who?", "answer": "aaaa bbb"}] * 400
    rows += [{"question": "zz", "answer": "q"}] * 2
    for part in ("train", "test"):
        write_jsonl(tmp_path / f"{part}.jsonl", rows)
    texts = open_texts(spec(tmp_path, validation=0.01), "answers")
    tokens = frequent_tokens(texts.train, texts.format.vocab_size)
    decoded = {texts.tokenizer.decode([token]) for token in tokens}
    assert "q" not in decoded and "<|end|>" in decoded
    assert not any("w" in text or "z" in text for text in decoded)  # of the questions
    targets = torch.cat([own.flatten() for _, own in texts.train.batches(999, CPU)])
    counts = targets[targets != IGNORED].bincount().tolist()
    ordered = sorted(counts, reverse=True)
    assert sum(ordered[: len(tokens) - 1]) < SHARE * sum(counts) <= sum(ordered[: len(tokens)])
    assert [counts[token] for token in tokens] == ordered[: len(tokens)]


class Given(TextPart):
    """Targets that are given, one a sample."""

    def __init__(self, targets: list[int]) -> None:
        self._targets = torch.tensor(targets)[:, None]

    def __len__(self) -> int:
        return len(self._targets)

    def make_batch(self, indices: Tensor, generator: Generator | None) -> Batch:
        return {}, self._targets[indices]


def test_half_of_the_vocabulary_is_too_many() -> None:
    used = Given([3, 5, 5, 7, IGNORED, 9] * 300)
    assert frequent_tokens(used, 10) == [5, 3, 7, 9]
    assert frequent_tokens(Given([*range(6)] * 300), 11) == []


def test_the_file(tmp_path: Path) -> None:
    assert read_frequent(tmp_path) == []
    write_frequent(tmp_path, [5, 1, 9], SHARE)
    assert read_frequent(tmp_path) == [5, 1, 9]
    (tmp_path / "frequent_tokens.json").write_text(json.dumps({"tokens": [-1], "share": 2}))
    with pytest.raises(RequestError, match=r"frequent_tokens.json is damaged: share.*tokens.0"):
        read_frequent(tmp_path)
