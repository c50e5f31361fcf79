"""Opening of a run, an artifact or a stock checkpoint by its path."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sortednet_cli.engine.sources.artifact import ArtifactSource
from sortednet_cli.engine.sources.run import RunSource
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.engine.sources.stock import load_stock
from sortednet_cli.storage.manifest import RunManifest
from sortednet_cli.storage.sources import StoredSource, read_source


def open_source(path: Path, allowed_factories: Collection[str] = ()) -> Source:
    """Open a finished run, an artifact or a stock transformers checkpoint.

    Raises:
        RequestError: the path is none of these, it is unfinished or damaged, or its factory is not
            allowed.
    """
    return open_stored(read_source(path), allowed_factories)


def open_stored(stored: StoredSource, allowed_factories: Collection[str] = ()) -> Source:
    """Open a source whose manifest was read already; raises the errors of `open_source`."""
    if stored.manifest is None:
        return load_stock(stored.path)
    source_class = RunSource if isinstance(stored.manifest, RunManifest) else ArtifactSource
    return source_class.of(stored, allowed_factories)
