"""Train one nested network that holds hundreds of good sub-models; cut any of them out.

from sortednet_cli import load_run, load_artifact

load_run("runs/digits-resnet").network().at(width=0.75, depth=4)   # an nn.Module
load_run("runs/pydoc-llama").decoder(depth=8)                        # a Decoder
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sortednet_cli.engine.loaded import LoadedArtifact, LoadedRun, load_artifact, load_run

__all__ = ["LoadedArtifact", "LoadedRun", "load_artifact", "load_run"]


def __getattr__(name: str) -> Any:
    """Import torch only when the Python interface is used: the command line starts without."""
    if name in __all__:
        from sortednet_cli.engine import loaded

        return getattr(loaded, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
