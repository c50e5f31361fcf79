"""How a first spec trains: the values of the presets for models and data of one kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sortednet_cli.engine.drafting.model import Found
from sortednet_cli.spec import presets
from sortednet_cli.spec.families import CAUSAL_TASKS, family_facts
from sortednet_cli.spec.load import load_preset

_LARGE = 1_000_000_000
_SMALL = 50_000_000
"""Parameters of a large and of a small pretrained language model."""


@dataclass(frozen=True)
class Line:
    """A line of a spec.

    Attributes:
        why: its comment.
        applies: whether it is a setting, and not only a suggestion in a comment.
    """

    key: str
    value: Any
    why: str = ""
    applies: bool = True


Lines = list[Line]


def training(found: Found, task: str, params: int, has_batch_norm: bool) -> Lines:
    """Choose rule, length, optimizer and schedule; `batch_size` is what an update should take.

    Args:
        params: the number of the root network's parameters.
        has_batch_norm: whether the network has BatchNorm, which trains best by SGD.
    """
    if family_facts(found.family).inputs == "text":
        return _texts(task, params)
    if found.is_pretrained:
        return _fine_tuning(has_batch_norm)
    return _from_nothing(found, has_batch_norm)


def _texts(task: str, params: int) -> Lines:
    lr, source = 1e-4, "sst2-bert"
    if task in CAUSAL_TASKS and params >= _LARGE:
        lr, source = 2e-5, "alpaca-llama2-13b"
    elif task == "classification" and params < _SMALL:
        lr, source = 8e-4, "sst2-minilm"
    batch = 32 if task not in CAUSAL_TASKS else 8
    return [
        Line("rule", "sandwich-sum", "every depth of the widest, the narrowest and a random width"),
        Line("num_random", 1, "how many random widths"),
        Line("epochs", 2, "passes over the training part"),
        Line("batch_size", batch),
        Line("optimizer", "adamw"),
        Line("lr", lr, f"as the preset {source}; raise it if the loss falls slowly"),
        Line("weight_decay", 0.01),
        Line("clip", 1.0, "the largest norm of an update's gradient"),
    ]


def _fine_tuning(has_batch_norm: bool) -> Lines:
    return [
        *_SANDWICH,
        Line("epochs", 20, "passes over the training part"),
        Line("batch_size", 128),
        *(_sgd(0.01, 1e-4) if has_batch_norm else _adamw(1e-4)),
    ]


def _from_nothing(found: Found, has_batch_norm: bool) -> Lines:
    epochs = Line("epochs", 100, "passes over the training part; the presets take 200 and 300")
    if not has_batch_norm:
        return [*_SANDWICH, epochs, Line("batch_size", 128), *_adamw(5e-4)]
    preset = f"cifar10-{found.family.replace('_', '')}"
    train = load_preset(preset if preset in presets.names() else "cifar10-resnet").train
    rule = [Line("rule", "sorted", "each micro-batch trains sub-models drawn at random")]
    rule += [Line("draws", train.draws, "how many")] if train.draws > 1 else []
    rule += [Line("smallest_first", 0.5, "the search space opens over the first half")]
    if family_facts(found.family).norms_are_per_channel:
        rule.append(Line("crossing_lr", train.crossing_lr, "slower weights between widths"))
    return [*rule, epochs, Line("batch_size", 128), *_sgd(train.lr, train.weight_decay)]


_SANDWICH = [
    Line("rule", "sandwich", "the largest, the smallest and random sub-models"),
    Line("distill", True, "the largest teaches the others"),
]


def _sgd(lr: float, weight_decay: float) -> Lines:
    return [Line("lr", lr, "for SGD"), Line("weight_decay", weight_decay)]


def _adamw(lr: float) -> Lines:
    return [
        Line("optimizer", "adamw"),
        Line("lr", lr, "raise it with the batch"),
        Line("weight_decay", 0.05, "as DeiT (arXiv 2012.12877)"),
        Line("clip", 1.0, "the largest norm of an update's gradient"),
    ]
