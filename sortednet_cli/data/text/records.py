"""Samples of a part before tokenization, and splitting missing parts off the training part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortednet_cli.data.split import PARTS, PartName, split_parts
from sortednet_cli.data.text.labels import check_known, classes_of, read_labels
from sortednet_cli.data.text.table import Table
from sortednet_cli.errors import RequestError
from sortednet_cli.logs import logger
from sortednet_cli.spec import TextDataSpec

FEW_DOCUMENTS = 20


@dataclass(frozen=True)
class Records:
    """Samples of one part.

    Attributes:
        texts: documents, questions, or texts to classify.
        seconds: the answers, or the second texts of pairs.
        labels: classes, int64 [N].
    """

    texts: list[str]
    seconds: list[str] | None = None
    labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: NDArray[np.int64]) -> Records:
        """Return the samples `indices`, in that order."""
        return Records(
            [self.texts[i] for i in indices],
            None if self.seconds is None else [self.seconds[i] for i in indices],
            None if self.labels is None else self.labels[indices],
        )

    def all_texts(self) -> list[str]:
        """Return all texts, to train a tokenizer on."""
        return self.texts + (self.seconds or [])


def read_records(
    tables: Mapping[PartName, Table],
    spec: TextDataSpec,
    task: str,
    known_classes: tuple[str, ...] | None,
) -> tuple[dict[PartName, Records], tuple[str, ...]]:
    """Read the columns that the task needs; return the stored parts and the classes.

    The classes are those of the training table, or `known_classes`. Rows with an empty text,
    question or answer are skipped with a warning, except in classification.

    Raises:
        RequestError: a column is missing, a value is not text, a text to classify is empty, or a
            label is not one of the classes.
    """
    if task == "classification":
        return _classified(tables, spec, known_classes)
    if task == "answers":
        return {part: _answered(table, spec) for part, table in tables.items()}, ()
    return {
        part: _with_text(table, Records(table.texts(spec.text, "text")), "text")
        for part, table in tables.items()
    }, ()


def split_records(
    stored: Mapping[PartName, Records],
    spec: TextDataSpec,
    classes: Sequence[str],
    *,
    plain: bool,
) -> dict[PartName, Records]:
    """Return all three parts; missing ones are split off the training part.

    If there are only a few documents (`plain`), they are split by characters.
    """
    if plain and len(stored["train"]) < FEW_DOCUMENTS:
        return _split_by_characters(stored, spec)
    labels = {
        part: np.zeros(len(records), np.int64) if records.labels is None else records.labels
        for part, records in stored.items()
    }
    noun = "documents" if plain else "rows"
    split = split_parts(labels, spec, classes or ("",), noun=noun)
    return {part: stored[source].take(indices) for part, (source, indices) in split.items()}


def _answered(table: Table, spec: TextDataSpec) -> Records:
    questions = table.texts(spec.question, "question")
    answers = table.texts(spec.answer, "answer")
    return _with_text(table, Records(questions, answers), "question or answer")


def _with_text(table: Table, records: Records, noun: str) -> Records:
    """Drop the rows in which a text is empty, with a warning."""
    columns = [records.texts, *([records.seconds] if records.seconds is not None else [])]
    empty = [not all(map(str.strip, row)) for row in zip(*columns, strict=True)]
    if count := sum(empty):
        logger.warning(
            "%s: skipped %s of %s rows, the first %s: their %s is empty",
            table.where,
            f"{count:,}",
            f"{len(empty):,}",
            table.location(empty.index(True)),
            noun,
        )
        return records.take(np.flatnonzero(np.logical_not(empty)))
    return records


def _classified(
    tables: Mapping[PartName, Table], spec: TextDataSpec, known_classes: tuple[str, ...] | None
) -> tuple[dict[PartName, Records], tuple[str, ...]]:
    train = read_labels(tables["train"], spec.label, known_classes)
    classes = known_classes or classes_of(tables["train"], spec.label, train)
    numbers = {name: number for number, name in enumerate(classes)}
    owner = "the model" if known_classes else "the training part"
    records: dict[PartName, Records] = {}
    for part, table in tables.items():
        labels = train if part == "train" else read_labels(table, spec.label, classes)
        check_known(table, spec.label, labels, classes, owner)
        records[part] = Records(
            table.texts(spec.text, "text"),
            table.texts(spec.pair, "pair") if spec.pair else None,
            np.array([numbers[label] for label in labels], dtype=np.int64),
        )
        _check_texts(table, records[part])
    return records, classes


def _check_texts(table: Table, records: Records) -> None:
    """Refuse rows to classify that have no text: skipping them would change the score."""
    seconds = records.seconds or [""] * len(records)
    empty = [
        row
        for row, pair in enumerate(zip(records.texts, seconds, strict=True))
        if not any(map(str.strip, pair))
    ]
    if empty:
        raise RequestError(
            f"{table.location(empty[0])}: the text is empty, as in {len(empty):,} of"
            f" {len(table):,} rows: remove these rows"
        )


def _split_by_characters(
    stored: Mapping[PartName, Records], spec: TextDataSpec
) -> dict[PartName, Records]:
    """Split the documents as one long text: train first, then validation, then test."""
    fractions = {name: 0.0 if name in stored else getattr(spec, name) for name in PARTS[1:]}
    if sum(fractions.values()) >= 1:
        raise RequestError(
            f"data.test = {spec.test:g} and data.validation = {spec.validation:g} leave nothing"
            " to train on: their sum must be below 1"
        )
    texts = stored["train"].texts
    total = sum(map(len, texts))
    test = round(total * fractions["test"])
    bounds = [total - test - round(total * fractions["validation"]), total - test]
    slack = int(total * min(fraction for fraction in (*fractions.values(), 1.0) if fraction) / 2)
    pieces: list[list[str]] = [[], [], []]
    start = 0
    for text in texts:
        cuts = [_boundary(text, bound - start, slack) for bound in bounds]
        for piece, low, high in zip(pieces, [0, *cuts], [*cuts, len(text)], strict=True):
            if text[low:high].strip():
                piece.append(text[low:high])
        start += len(text)
    cut = {name: Records(piece) for name, piece in zip(PARTS, pieces, strict=True)}
    parts = {**cut, **{part: stored[part] for part in PARTS[1:] if part in stored}}
    for name, records in parts.items():
        if not len(records):
            raise RequestError(f"there is too little text to hold out a {name} part")
    return parts


def _boundary(text: str, wanted: int, slack: int) -> int:
    """Return where to cut: at the start of a line or word just before `wanted`, or at `wanted`."""
    if wanted <= 0 or wanted >= len(text):
        return min(max(wanted, 0), len(text))
    for separator in ("\n", " "):
        start = text.rfind(separator, max(0, wanted - slack), wanted) + 1
        if start > 0:
            return start
    return wanted
