"""Open the texts that a spec names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sortednet_cli.data.order import batch_numbers
from sortednet_cli.data.split import PartName
from sortednet_cli.data.text.answers import AnswersPart
from sortednet_cli.data.text.causal import CausalPart
from sortednet_cli.data.text.format import TextFormat, check_same
from sortednet_cli.data.text.labelled import LabelledPart
from sortednet_cli.data.text.locate import locate
from sortednet_cli.data.text.masked import MaskedPart
from sortednet_cli.data.text.parts import Batch, TextPart, TrainingTexts, Truncation
from sortednet_cli.data.text.prompting import Prompting, make_prompting
from sortednet_cli.data.text.records import Records, read_records, split_records
from sortednet_cli.data.text.tokenizer import (
    check_roles,
    load_tokenizer,
    num_tokens,
    start_token,
    train_tokenizer,
)
from sortednet_cli.errors import RequestError
from sortednet_cli.spec import TextDataSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Texts:
    """Opened texts: their format, their tokenizer and their three parts."""

    def __init__(
        self,
        text_format: TextFormat,
        tokenizer: PreTrainedTokenizerBase,
        train: TextPart,
        validation: TextPart,
        test: TextPart,
    ) -> None:
        self.format = text_format
        self.tokenizer = tokenizer
        self.train = train
        self.validation = validation
        self.test = test
        self._training = TrainingTexts(train)

    def batches_per_epoch(self, batch_size: int) -> int:
        """Count the full batches of the training part; RequestError if there is none."""
        return self._training.batches_per_epoch(batch_size)

    def training_batch(
        self, index: int, *, batch_size: int, seed: int, device: torch.device
    ) -> Batch:
        """Return training batch `index`, which counts from 0 over all epochs.

        Inputs and targets are as in `TextPart.batches`. The batch is a pure function of the
        arguments. An epoch holds each sample at most once.

        Raises:
            RequestError: `batch_size` is larger than the part.
        """
        return self._training.batch(index, batch_size=batch_size, seed=seed, device=device)

    def training_batches(
        self,
        start: int,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        stride: int = 1,
        count: int | None = None,
    ) -> Iterator[Batch]:
        """Yield training batches number start, start + stride, ...: `count`, or endlessly."""
        for index in batch_numbers(start, stride, count):
            yield self.training_batch(index, batch_size=batch_size, seed=seed, device=device)


def open_texts(
    spec: TextDataSpec,
    task: str,
    *,
    tokenizer: Path | None = None,
    known: TextFormat | None = None,
) -> Texts:
    """Open the texts that a spec names, for `task`.

    Args:
        spec: the source of the texts, and how they are prepared.
        task: `classification`, `masked-lm`, `causal-lm` or `answers`.
        tokenizer: folder of a saved tokenizer; without one, a byte-level BPE is trained on the
            texts of the training part.
        known: the format that a model was made for; the data must have its task and classes.

    Raises:
        RequestError: the data does not match the spec, the task or `known`, or the tokenizer lacks
            a token that the task needs.
        WorkError: a download failed.
    """
    name, tables = locate(spec, task)
    known_classes = known.classes if known is not None and known.task == task else None
    records, classes = read_records(tables, spec, task, known_classes)
    parts = split_records(records, spec, classes, plain=tables["train"].plain)
    loaded = _tokenizer(parts["train"], spec, task, tokenizer)
    prompting = make_prompting(loaded, task, spec.template) if task == "answers" else None
    text_format = TextFormat(
        task=task,
        vocab_size=num_tokens(loaded),
        max_length=spec.max_length,
        classes=classes,
        pad_id=check_roles(loaded, task),
        bos_id=start_token(loaded, task),
        eos_id=loaded.eos_token_id if prompting is None else prompting.end,
        source=name,
    )
    if known is not None:
        check_same(text_format, known)
    made = _parts(parts, loaded, text_format, prompting, spec)
    return Texts(text_format, loaded, **made)


def _tokenizer(
    train: Records, spec: TextDataSpec, task: str, folder: Path | None
) -> PreTrainedTokenizerBase:
    if folder is not None:
        return load_tokenizer(folder)
    return train_tokenizer(
        train.all_texts(), task, vocab_size=spec.vocab_size, max_length=spec.max_length
    )


def _parts(
    records: dict[PartName, Records],
    tokenizer: PreTrainedTokenizerBase,
    text_format: TextFormat,
    prompting: Prompting | None,
    spec: TextDataSpec,
) -> dict[PartName, TextPart]:
    truncation = Truncation()

    def make(name: PartName, part: Records) -> TextPart:
        match text_format.task:
            case "classification":
                return LabelledPart(part, tokenizer, text_format, truncation)
            case "masked-lm":
                return MaskedPart(part.texts, tokenizer, text_format, name=name, fraction=spec.mask)
            case "causal-lm":
                return CausalPart(part.texts, tokenizer, text_format)
            case _:
                assert prompting is not None
                return AnswersPart(part, tokenizer, text_format, prompting, truncation)

    parts = {name: make(name, part) for name, part in records.items()}
    for name, part in parts.items():
        if not len(part):
            raise RequestError(f"the {name} part of {text_format.source} contains no text")
    truncation.warn(text_format.max_length)
    return parts
