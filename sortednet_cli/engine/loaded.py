"""Runs and artifacts as objects of the Python API."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sortednet_cli.engine.generation import Decoder
from sortednet_cli.engine.generation.causal import make_decoder
from sortednet_cli.engine.sources.artifact import ArtifactSource
from sortednet_cli.engine.sources.run import RunSource
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.space import SubModel
from sortednet_cli.storage.sources import read_artifact, read_run


class _Decodes(Source):
    """A source whose sub-models can generate texts, if the model is causal."""

    def decoder(self, submodel: SubModel | None = None, /, **axes: int | float) -> Decoder:
        """Make a decoder of a sub-model of a causal model, by default the largest.

        Args:
            submodel: the sub-model; or name its axis values as keywords.

        Raises:
            RequestError: the model is not causal, or there is no such sub-model.
        """
        return make_decoder(self, submodel or self.space.resolve(axes))


class LoadedRun(_Decodes, RunSource):
    """A finished run, as `load_run` opens it."""


class LoadedArtifact(_Decodes, ArtifactSource):
    """An artifact, as `load_artifact` opens it. Smaller sub-models can be cut out of it again."""


def load_run(path: Path | str, *, allow_factory: Collection[str] = ()) -> LoadedRun:
    """Open a finished run: `load_run("runs/digits-resnet").network().at(width=0.5)`.

    Args:
        path: the run's folder.
        allow_factory: factories that a custom run may run, as `MODULE:NAME`.

    Raises:
        RequestError: the path is no finished run, it is damaged, or its factory is not allowed.
    """
    return LoadedRun.of(read_run(Path(path)), allow_factory)


def load_artifact(path: Path | str, *, allow_factory: Collection[str] = ()) -> LoadedArtifact:
    """Open an artifact: `load_artifact(folder).module()` is the standalone module.

    Args:
        path: the artifact's folder.
        allow_factory: factories that a custom artifact may run, as `MODULE:NAME`.

    Raises:
        RequestError: the path is no artifact, it is damaged, or its factory is not allowed.
    """
    return LoadedArtifact.of(read_artifact(Path(path)), allow_factory)
