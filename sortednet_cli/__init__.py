"""Train one nested network that holds hundreds of good sub-models; cut any of them out.

from sortednet_cli import extract, frontier, load_artifact, load_run, train

run = train("digits-resnet", {"train.epochs": 20})
load_run(run).network().at(width=0.75, depth=4)                      # an nn.Module
load_artifact(extract(run, limits={"params": 50_000})).module()      # a standalone one
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sortednet_cli.api import evaluate, extract, frontier, train
    from sortednet_cli.engine.loaded import LoadedArtifact, LoadedRun, load_artifact, load_run

__all__ = [
    "LoadedArtifact",
    "LoadedRun",
    "evaluate",
    "extract",
    "frontier",
    "load_artifact",
    "load_run",
    "train",
]

_LOADED = ("LoadedArtifact", "LoadedRun", "load_artifact", "load_run")


def __getattr__(name: str) -> Any:
    """Import the Python API on first use, so that the command line starts without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _LOADED:
        from sortednet_cli.engine import loaded

        return getattr(loaded, name)
    from sortednet_cli import api

    return getattr(api, name)
