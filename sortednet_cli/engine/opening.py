"""Opening whatever a path names: a run, an artifact, or a stock checkpoint."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sortednet_cli.engine.source import Source, load_artifact, load_run
from sortednet_cli.engine.stock import is_checkpoint, load_stock
from sortednet_cli.storage.artifact import ArtifactFolder


def open_source(path: Path, allowed_factories: Collection[str] = ()) -> Source:
    """Open a finished run, an artifact or a stock transformers checkpoint.

    Raises:
        RequestError: it is none, it is unfinished or damaged, or its factory is not allowed.
    """
    if ArtifactFolder.is_one(path):
        return load_artifact(path, allow_factory=allowed_factories)
    if is_checkpoint(path):
        return load_stock(path)
    return load_run(path, allow_factory=allowed_factories)
