"""Names of families, rules, trackers and data sources, and what is legal for each. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sortednet_cli import extensions
from sortednet_cli.extensions import ClassRegistry


@dataclass(frozen=True)
class FamilyFacts:
    """The axes of a family, the depth orders it can be cut in, its default first, its tasks."""

    axes: tuple[str, ...]
    depth_orders: tuple[str, ...]
    inputs: str = "image"
    tasks: tuple[str, ...] = ("classification",)
    refused: Mapping[str, str] = field(default_factory=dict)
    """Axes that its stock configuration cannot say, each with the reason."""


_ALL_ORDERS = ("late-first", "balanced", "prefix")
_STAGED_ORDERS = ("late-first", "balanced")
_ENCODER_TASKS = ("classification", "masked-lm")
CAUSAL_TASKS = ("causal-lm", "answers")
"""Tasks whose models continue a text."""

_TIED_HEADS = dict.fromkeys(
    ("heads", "hidden"),
    "the stock class makes the size of a head of hidden size and number of heads, so"
    " neither can shrink alone; take width, which shrinks both",
)

FRACTIONS = ("width", "heads", "ffn", "hidden")
"""Axes whose values are fractions of the root's."""

FAMILIES: dict[str, FamilyFacts] = {
    "preact_resnet": FamilyFacts(("width", "depth"), _ALL_ORDERS),
    "mobilenet_v2": FamilyFacts(("width", "depth"), _STAGED_ORDERS),
    "resnet50": FamilyFacts(("width", "depth"), _STAGED_ORDERS),
    "resnet101": FamilyFacts(("width", "depth"), _STAGED_ORDERS),
    "resnet152": FamilyFacts(("width", "depth"), _STAGED_ORDERS),
    "bert": FamilyFacts(
        ("width", "depth", "ffn"), ("prefix",), "text", _ENCODER_TASKS, _TIED_HEADS
    ),
    "roberta": FamilyFacts(
        ("width", "depth", "ffn"), ("prefix",), "text", _ENCODER_TASKS, _TIED_HEADS
    ),
    "llama": FamilyFacts(
        ("width", "depth", "heads", "ffn", "hidden"), ("prefix",), "text", CAUSAL_TASKS
    ),
    "custom": FamilyFacts((), _ALL_ORDERS),
}

RULES = ClassRegistry(
    extensions.RULES,
    "rule",
    {
        "sorted": "sortednet_cli.rules.sorted:Sorted",
        "sandwich": "sortednet_cli.rules.sandwich:Sandwich",
        "sum": "sortednet_cli.rules.every_depth:Sum",
        "sandwich-sum": "sortednet_cli.rules.every_depth:SandwichSum",
        "single": "sortednet_cli.rules.single:Single",
    },
)

TRACKERS = ClassRegistry(
    extensions.TRACKERS,
    "tracker",
    {"tensorboard": "sortednet_cli.engine.training.trackers.tensorboard:TensorBoard"},
)

SOURCES = ClassRegistry(
    extensions.SOURCES,
    "source",
    {
        "digits": "sortednet_cli.data.images.sources.digits:Digits",
        "mnist": "sortednet_cli.data.images.sources.mnist:Mnist",
        "fashion-mnist": "sortednet_cli.data.images.sources.mnist:FashionMnist",
        "cifar10": "sortednet_cli.data.images.sources.cifar:Cifar10",
        "cifar100": "sortednet_cli.data.images.sources.cifar:Cifar100",
        "image-folder": "sortednet_cli.data.images.sources.image_folder:ImageFolder",
        "text": "sortednet_cli.data.text.sources.text:TextFiles",
        "pydoc": "sortednet_cli.data.text.sources.pydoc:Pydoc",
        "hub": "sortednet_cli.data.text.sources.hub:Hub",
    },
)
