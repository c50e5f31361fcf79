"""Format of a text model's inputs, and the check that other data has the same format."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from sortednet_cli.errors import RequestError, shortened


@dataclass(frozen=True)
class TextFormat:
    """Format of the texts that a model was made for; `dataclasses.asdict` gives its JSON.

    Attributes:
        vocab_size: an upper bound of all token ids: the tokenizer's size, or the number of rows of
            a stock model's embedding, which may have spare rows.
        max_length: tokens of a sequence.
        classes: names of the classes; empty unless the task is classification.
        source: name of the data (`sst2`, `pydoc`, the name of a file or folder), without its path.
    """

    task: str
    vocab_size: int
    max_length: int
    classes: tuple[str, ...]
    pad_id: int
    bos_id: int | None
    eos_id: int | None
    source: str

    kind: ClassVar = "text"
    unit: ClassVar = "token"

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 unless the task is classification."""
        return len(self.classes)

    @property
    def num_units(self) -> int:
        """Tokens of a full sequence: costs are counted per token."""
        return self.max_length

    def facts(self) -> dict[str, Any]:
        return asdict(self)

    def random_inputs(self, count: int, generator: Generator | None = None) -> dict[str, Tensor]:
        """Random tokens [B, T], T = `max_length`."""
        shape = (count, self.max_length)
        return {"input_ids": torch.randint(self.vocab_size, shape, generator=generator)}

    def output_shape(self, count: int) -> tuple[int, ...]:
        if self.classes:
            return (count, self.num_classes)
        return (count, self.max_length, self.vocab_size)

    def card_lines(self, has_tokenizer: bool) -> list[str]:
        whose = "in this folder" if has_tokenizer else "missing: its source had none"
        classes = f" of {self.num_classes} classes: {shortened(self.classes, 10)}"
        return [
            f"- Input: texts of up to {self.max_length} tokens; the tokenizer is {whose}",
            f"- Output: logits{classes if self.classes else ' of tokens'} ({self.task})",
        ]


def check_same(data: TextFormat, model: TextFormat) -> None:
    """Raise RequestError unless the data's format suits a model that was made for `model`."""
    if data.task != model.task:
        raise RequestError(
            f"the texts of {data.source} are for {data.task}, but the model was made for"
            f" {model.task}"
        )
    if data.vocab_size > model.vocab_size:
        raise RequestError(
            f"the tokenizer has {data.vocab_size:,} tokens, but the model was made for"
            f" {model.vocab_size:,}: use the tokenizer that was saved with the model"
        )
    if data.classes != model.classes:
        raise RequestError(
            f"the classes of {data.source} are not those the model was made for"
            f" ({model.source}): {shortened(data.classes)} against {shortened(model.classes)}"
        )
