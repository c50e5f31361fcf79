"""Split data into train, validation and test by the split seed, not by the training seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sortednet_cli.errors import RequestError
from sortednet_cli.seeds import stream_seed
from sortednet_cli.spec import DataSpec

PartName = Literal["train", "validation", "test"]
Indices = NDArray[np.int64]
PARTS: tuple[PartName, ...] = ("train", "validation", "test")


def split_parts(
    labels: Mapping[PartName, Indices],
    spec: DataSpec,
    classes: Sequence[str],
    *,
    noun: str = "images",
) -> dict[PartName, tuple[PartName, Indices]]:
    """Return for each of the three parts the stored part it is taken from, and its samples there.

    A missing validation or test part is cut out of `train`, with the same fraction of each class.
    Samples are in a random but fixed order, so that the first n of a part represent it.

    Args:
        labels: int64 labels [N] of each stored part: `train`, and `validation` and `test` if they
            exist.
        noun: names the samples in messages.

    Raises:
        RequestError: a part would be empty.
    """
    validation, test = _fractions(labels, spec)
    random = _generator(spec.split_seed)
    cut = _stratified(labels["train"], validation, test, len(classes), random)
    parts: dict[PartName, tuple[PartName, Indices]] = {
        name: ("train", indices) for name, indices in zip(PARTS, cut, strict=True)
    }
    for name in PARTS[1:]:
        if name in labels:
            parts[name] = (name, np.arange(len(labels[name])))
    for name, (_, indices) in parts.items():
        if not len(indices):
            raise RequestError(
                f"there are too few {noun} to hold out a {name} part:"
                f" {len(labels['train'])} training {noun} in {len(classes)} classes"
            )
    return {name: (stored, random.permutation(idx)) for name, (stored, idx) in parts.items()}


def _fractions(labels: Mapping[PartName, Indices], spec: DataSpec) -> tuple[float, float]:
    """Return the fractions of `train` to cut out for the missing validation and test parts."""
    test = 0.0 if "test" in labels else spec.test
    validation = 0.0 if "validation" in labels else spec.validation
    if test + validation >= 1:
        raise RequestError(
            f"data.test = {test:g} and data.validation = {validation:g} leave nothing to"
            " train on: their sum must be below 1"
        )
    return validation, test


def _generator(split_seed: int) -> np.random.RandomState:
    # Numpy guarantees RandomState's streams. If an upgrade changed the split, a resumed run would
    # train on samples that it is scored on.
    seed = stream_seed(split_seed, "split")
    return np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32])


def _stratified(
    labels: Indices,
    validation: float,
    test: float,
    num_classes: int,
    random: np.random.RandomState,
) -> tuple[Indices, Indices, Indices]:
    """Split each class by the fractions; a class of 3 or more gives each held-out part a sample."""
    pieces: list[list[Indices]] = [[], [], []]
    for label in range(num_classes):
        members = random.permutation(np.flatnonzero(labels == label))
        num_test = _held_out(len(members), test, keep=2)
        num_validation = _held_out(len(members), validation, keep=1, taken=num_test)
        start = len(members) - num_test - num_validation
        bounds = (start, start + num_validation)
        for piece, chosen in zip(pieces, np.split(members, bounds), strict=True):
            piece.append(chosen)
    train, held, tested = (np.concatenate(piece).astype(np.int64) for piece in pieces)
    return train, held, tested


def _held_out(count: int, fraction: float, keep: int, taken: int = 0) -> int:
    if fraction == 0:
        return 0
    return max(0, min(max(1, int(count * fraction + 0.5)), count - taken - keep))
