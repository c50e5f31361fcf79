"""Three parts: disjoint, complete, stratified, and fixed by the split seed alone."""

from __future__ import annotations

import numpy as np
import pytest

from sortednet_cli.data.split import PARTS, split_parts
from sortednet_cli.errors import RequestError
from sortednet_cli.spec import ImageDataSpec

LABELS = np.repeat(np.arange(4), (40, 20, 10, 3))
CLASSES = ("a", "b", "c", "d")
PINNED = {
    "train": [12, 11, 6, 8, 19, 1, 10, 7, 18, 5, 17, 16, 2, 13],
    "validation": [9, 4],
    "test": [3, 14, 15, 0],
}


def spec(**settings: object) -> ImageDataSpec:
    return ImageDataSpec.model_validate({"source": "image-folder", **settings})


def test_parts_are_disjoint_complete_and_stratified() -> None:
    parts = split_parts({"train": LABELS}, spec(), CLASSES)
    assert tuple(parts) == PARTS
    everything = np.concatenate([indices for _, indices in parts.values()])
    assert sorted(everything) == list(range(len(LABELS)))
    counts = {name: np.bincount(LABELS[indices]).tolist() for name, (_, indices) in parts.items()}
    assert counts == {"train": [28, 14, 7, 1], "validation": [4, 2, 1, 1], "test": [8, 4, 2, 1]}


def test_the_split_is_pinned() -> None:
    """These indices may never change: an old run's test part would leak into training."""
    parts = split_parts({"train": np.arange(20) % 2}, spec(), ("a", "b"))
    assert {name: indices.tolist() for name, (_, indices) in parts.items()} == PINNED


def test_the_split_seed_decides() -> None:
    def test_part(seed: int) -> list[int]:
        return split_parts({"train": LABELS}, spec(split_seed=seed), CLASSES)["test"][1].tolist()

    assert test_part(3) == test_part(3)
    assert sorted(test_part(3)) != sorted(test_part(4))


def test_parts_that_came_with_the_data_are_kept() -> None:
    test = np.zeros(5, dtype=np.int64)
    parts = split_parts({"train": LABELS, "test": test}, spec(), CLASSES)
    assert parts["test"][0] == "test"
    assert sorted(parts["test"][1]) == list(range(5))
    assert len(parts["train"][1]) + len(parts["validation"][1]) == len(LABELS)
    three = {"train": LABELS, "validation": test, "test": test}
    assert len(split_parts(three, spec(), CLASSES)["train"][1]) == len(LABELS)


def test_parts_are_shuffled_so_that_the_first_samples_are_fair() -> None:
    parts = split_parts({"train": np.repeat(np.arange(2), 500)}, spec(), ("a", "b"))
    for _, indices in parts.values():
        half = indices[: len(indices) // 2]
        assert 0.3 < (half >= 500).mean() < 0.7


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        (LABELS, {"test": 0.6, "validation": 0.4}, "their sum must be below 1"),
        (np.array([0, 1]), {}, "too few images to hold out a validation part"),
    ],
)
def test_impossible_splits(labels: np.ndarray, settings: dict[str, float], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        split_parts({"train": labels}, spec(**settings), CLASSES)
