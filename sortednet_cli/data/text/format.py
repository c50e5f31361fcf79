"""What a model must know of its texts, and the check that other data offers the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from sortednet_cli.errors import RequestError, shortened


@dataclass(frozen=True)
class TextFormat:
    """The texts a model was made for; `dataclasses.asdict` gives its JSON.

    `vocab_size` is the length of the tokenizer, so every id is below it, or the rows of a stock
    model's embedding, of which some may be spare; `max_length` counts the tokens of a sequence.
    `classes` is empty unless texts are classified. `source` names the data (`sst2`, `pydoc`, a
    file's or folder's own name), never where it lies.
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
        """How many classes there are, 0 unless texts are classified."""
        return len(self.classes)

    @property
    def num_units(self) -> int:
        """Tokens of a full sequence: costs are counted for a token."""
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
        whose = "in this folder" if has_tokenizer else "not: what this was cut from had none"
        classes = f" of {self.num_classes} classes: {shortened(self.classes, 10)}"
        return [
            f"- Input: texts of up to {self.max_length} tokens; the tokenizer is {whose}",
            f"- Output: logits{classes if self.classes else ' of tokens'} ({self.task})",
        ]


def check_same(found: TextFormat, known: TextFormat) -> None:
    """Raise RequestError unless the data fit a model that was made for `known`."""
    if found.task != known.task:
        raise RequestError(
            f"the texts of {found.source} are for {found.task}, the model was made for {known.task}"
        )
    if found.vocab_size > known.vocab_size:
        raise RequestError(
            f"the tokenizer has {found.vocab_size:,} tokens, the model was made for"
            f" {known.vocab_size:,}: use the tokenizer that was saved with the model"
        )
    if found.classes != known.classes:
        raise RequestError(
            f"the classes of {found.source} are not those the model was made for"
            f" ({known.source}): {shortened(found.classes)} against {shortened(known.classes)}"
        )
