"""Scores of texts that are classified, where a part lacks a class."""

from __future__ import annotations

import pytest
import torch

from sortednet_cli.tasks.classification import TextClassification


def scores(num_classes: int, true: list[int], found: list[int]) -> dict[str, float]:
    task = TextClassification(num_classes)
    logits = torch.nn.functional.one_hot(torch.tensor(found), num_classes).float()
    first = task.count(task.tally(logits[:1], torch.tensor(true[:1])))
    others = task.count(task.tally(logits[1:], torch.tensor(true[1:])))
    return task.metrics(first + others, 0)


@pytest.mark.parametrize(
    ("num_classes", "true", "found", "f1", "matthews"),
    [
        (2, [1, 1, 0, 0], [1, 0, 0, 0], 2 / 3, 1 / 3**0.5),
        (2, [1, 1], [1, 1], 1.0, 0.0),
        (2, [0, 0], [0, 0], 0.0, 0.0),
        (2, [0, 0], [0, 1], 0.0, 0.0),
        # The mean over the classes there are, not class 1 alone because class 2 is nowhere.
        (3, [0, 1, 0, 1], [0, 1, 1, 1], (2 / 3 + 4 / 5) / 2, 1 / 3**0.5),
        (3, [2, 2], [2, 2], 1.0, 0.0),
        (3, [0, 0], [2, 2], 0.0, 0.0),
    ],
)
def test_scores_of_parts_that_lack_a_class(
    num_classes: int, true: list[int], found: list[int], f1: float, matthews: float
) -> None:
    made = scores(num_classes, true, found)
    assert made["f1"] == pytest.approx(f1) and made["matthews"] == pytest.approx(matthews)
    assert made["accuracy"] == sum(a == b for a, b in zip(true, found, strict=True)) / len(true)


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_scores_are_those_of_scikit_learn(num_classes: int) -> None:
    """By counts of each class alone, as pairs of thousands of classes would take gigabytes."""
    from sklearn.metrics import f1_score, matthews_corrcoef

    generator = torch.Generator().manual_seed(num_classes)
    true = torch.randint(num_classes, (200,), generator=generator)
    other = torch.randint(num_classes, (200,), generator=generator)
    found = torch.where(torch.rand(200, generator=generator) < 0.6, true, other)
    made = scores(num_classes, true.tolist(), found.tolist())
    average = "binary" if num_classes == 2 else "macro"
    assert made["f1"] == pytest.approx(f1_score(true, found, average=average))
    assert made["matthews"] == pytest.approx(matthews_corrcoef(true, found))
