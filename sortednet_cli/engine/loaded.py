"""The Python interface: a run or an artifact by its path."""

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
    """What a source of a causal model offers besides."""

    def decoder(self, submodel: SubModel | None = None, /, **axes: int | float) -> Decoder:
        """A decoder of a causal model: the largest sub-model unless axes are named.

        Raises:
            RequestError: the model is no causal one, or there is no such sub-model.
        """
        return make_decoder(self, submodel or self.space.resolve(axes))


class LoadedRun(_Decodes, RunSource):
    """A finished run."""


class LoadedArtifact(_Decodes, ArtifactSource):
    """A standalone sub-model; what is nested in it can be cut out again."""


def load_run(path: Path | str, *, allow_factory: Collection[str] = ()) -> LoadedRun:
    """Open a finished run: `load_run("runs/digits-resnet").network().at(width=0.5)`."""
    return LoadedRun.of(read_run(Path(path)), allow_factory)


def load_artifact(path: Path | str, *, allow_factory: Collection[str] = ()) -> LoadedArtifact:
    """Open an artifact: `load_artifact(folder).module()` is the standalone module."""
    return LoadedArtifact.of(read_artifact(Path(path)), allow_factory)
