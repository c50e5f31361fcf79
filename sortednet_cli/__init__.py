"""Train one nested network that holds hundreds of good sub-models; cut any of them out.

from sortednet_cli import extract, frontier, load_artifact, load_run, train

run = train("digits-resnet", {"train.epochs": 20})
load_run(run).network().at(width=0.75, depth=4)                      # an nn.Module
load_artifact(extract(run, limits={"params": 50_000})).module()      # a standalone one
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sortednet_cli.api import evaluate, extract, frontier, train
    from sortednet_cli.engine.evaluation.frontier import Frontier
    from sortednet_cli.engine.generation import Decoder
    from sortednet_cli.engine.loaded import LoadedArtifact, LoadedRun, load_artifact, load_run
    from sortednet_cli.engine.sources.table import Row
    from sortednet_cli.engine.training.events import Finished, Scored, Started, Updated
    from sortednet_cli.errors import RequestError, WorkError
    from sortednet_cli.nesting import NestedNetwork
    from sortednet_cli.space import SubModel

__all__ = [
    "Decoder",
    "Finished",
    "Frontier",
    "LoadedArtifact",
    "LoadedRun",
    "NestedNetwork",
    "RequestError",
    "Row",
    "Scored",
    "Started",
    "SubModel",
    "Updated",
    "WorkError",
    "evaluate",
    "extract",
    "frontier",
    "load_artifact",
    "load_run",
    "train",
]

_PLACES = {
    "api": ("evaluate", "extract", "frontier", "train"),
    "engine.evaluation.frontier": ("Frontier",),
    "engine.generation": ("Decoder",),
    "engine.loaded": ("LoadedArtifact", "LoadedRun", "load_artifact", "load_run"),
    "engine.sources.table": ("Row",),
    "engine.training.events": ("Finished", "Scored", "Started", "Updated"),
    "errors": ("RequestError", "WorkError"),
    "nesting": ("NestedNetwork",),
    "space": ("SubModel",),
}
"""Where each name lies, below this package."""


def __getattr__(name: str) -> Any:
    """Import the Python API on first use, so that the command line starts without torch."""
    for place, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{place}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
