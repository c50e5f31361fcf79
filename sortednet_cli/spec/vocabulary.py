"""Legal names of rules, trackers and data sources. No torch."""

from __future__ import annotations

from pydantic import BeforeValidator, ValidationInfo

from sortednet_cli import extensions
from sortednet_cli.extensions import Registry

FRACTIONS = ("width", "heads", "ffn", "hidden")
"""Axes whose values are fractions of the root network's."""

RULES = Registry(
    extensions.RULES,
    "rule",
    "train.rule",
    {
        "sorted": "sortednet_cli.rules.sorted:Sorted",
        "sandwich": "sortednet_cli.rules.sandwich:Sandwich",
        "sum": "sortednet_cli.rules.every_depth:Sum",
        "sandwich-sum": "sortednet_cli.rules.every_depth:SandwichSum",
        "single": "sortednet_cli.rules.single:Single",
    },
)

TRACKERS = Registry(
    extensions.TRACKERS,
    "tracker",
    "train.trackers",
    {
        "tensorboard": "sortednet_cli.engine.training.trackers.tensorboard:TensorBoard",
        "wandb": "sortednet_cli.engine.training.trackers.wandb:WandB",
        "mlflow": "sortednet_cli.engine.training.trackers.mlflow:MLflow",
        "trackio": "sortednet_cli.engine.training.trackers.trackio:Trackio",
    },
)

SOURCES = Registry(
    extensions.SOURCES,
    "source",
    "data.source",
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


STORED = {"stored": True}
"""The context in which specs of runs and artifacts are validated.

A rule, tracker or source of a package that is no longer installed is missed where it is used, not
by whoever reads what was trained with it.
"""


def one_of(registry: Registry) -> BeforeValidator:
    """What checks a field that names something of a registry."""

    def check(name: object, info: ValidationInfo) -> object:
        stored = info.context == STORED and isinstance(name, str)
        return name if stored else registry.known(name)

    return BeforeValidator(check)
