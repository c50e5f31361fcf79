"""Legal names of rules, trackers and data sources. No torch."""

from __future__ import annotations

from sortednet_cli import extensions
from sortednet_cli.extensions import ClassRegistry

FRACTIONS = ("width", "heads", "ffn", "hidden")
"""Axes whose values are fractions of the root network's."""

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
