"""Pico texts: files of every kind, and the specs that open them."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from sortednet_cli.data import Texts, open_texts
from sortednet_cli.data.text.format import TextFormat
from sortednet_cli.data.text.parts import Batch
from sortednet_cli.spec import TextDataSpec

CPU = torch.device("cpu")
WORDS = ("red", "blue", "green", "old", "new", "house", "wörld", "日本", "tree", "runs")


def sentence(number: int, count: int = 6) -> str:
    return " ".join(WORDS[(number * (i + 3) + i * i) % len(WORDS)] for i in range(count))


def labelled(count: int = 40) -> list[dict[str, object]]:
    return [
        {"text": sentence(i, 2 + i % 7), "label": i % 2, "pair": sentence(i + 9, 3)}
        for i in range(count)
    ]


def asked(count: int = 40) -> list[dict[str, object]]:
    return [
        {"question": f"what is {i} + {i}?", "answer": f"{i + i} {sentence(i, i % 4)}"}
        for i in range(count)
    ]


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def spec(path: Path | None, **settings: object) -> TextDataSpec:
    fields = {"source": "text", "path": path and str(path), "max_length": 24, "vocab_size": 300}
    return TextDataSpec.model_validate({**fields, **settings})


def opened(
    task: str,
    folder: Path,
    *,
    known: TextFormat | None = None,
    tokenizer: Path | None = None,
    **settings: object,
) -> Texts:
    """Open pico data for a task, made in `folder`."""
    path = folder / "data.jsonl"
    if not path.exists():
        write_jsonl(path, asked() if task == "answers" else labelled())
    return open_texts(spec(path, **settings), task, known=known, tokenizer=tokenizer)


def same(a: Batch, b: Batch) -> bool:
    if a[0].keys() != b[0].keys() or not torch.equal(a[1], b[1]):
        return False
    return all(torch.equal(tensor, b[0][name]) for name, tensor in a[0].items())
