"""Runs and artifacts as objects of the Python API."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from torch import nn

from sortednet_cli.engine.generation import Decoder
from sortednet_cli.engine.generation.causal import make_decoder
from sortednet_cli.engine.sources.artifact import ArtifactSource
from sortednet_cli.engine.sources.run import RunSource
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.errors import RequestError, naming_arguments
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.space import SubModel
from sortednet_cli.storage.hub import download, is_hub_name
from sortednet_cli.storage.sources import read_artifact, read_run


class _Loaded(Source):
    """The methods of a source that are part of the Python API."""

    def network(
        self, device: torch.device | str = "cpu", *, channels_last: bool = False
    ) -> NestedNetwork:
        """Load the weights as a nested network; `network().at(width=0.5)` is an `nn.Module`.

        Sub-models are in eval mode. They share the network's weights.

        Args:
            device: the device to load to.
            channels_last: whether to use that memory format for images.

        Raises:
            RequestError: the weights are damaged.
        """
        return super().network(device, channels_last=channels_last)  # type: ignore[safe-super]

    def decoder(self, submodel: SubModel | None = None, /, **axes: int | float) -> Decoder:
        """Make a decoder of a sub-model of a causal model, by default the largest.

        Args:
            submodel: the sub-model; or name its axis values as keywords.

        Raises:
            RequestError: the model is not causal, or there is no such sub-model.
        """
        return make_decoder(self, submodel or self.space.resolve(axes))


class LoadedRun(_Loaded, RunSource):
    """A finished run, as `load_run` opens it.

    Attributes:
        path: its folder.
        space: the search space; `space.submodels` lists all sub-models.
        rows: the stored costs and scores by sub-model.
    """


class LoadedArtifact(_Loaded, ArtifactSource):
    """An artifact, as `load_artifact` opens it. Smaller sub-models can be cut out of it again.

    Attributes:
        path: its folder.
        space: the search space of the sub-models that can be cut out; its `largest` is the
            artifact's own.
        rows: the stored costs and scores by sub-model.
    """

    def module(self) -> nn.Module:
        """Load the standalone module, in eval mode.

        Raises:
            RequestError: the weights are damaged.
        """
        return super().module()


@naming_arguments()
def load_run(path: Path | str, *, allow_factory: Collection[str] = ()) -> LoadedRun:
    """Open a finished run: `load_run("runs/digits-resnet").network().at(width=0.5)`.

    Args:
        path: the run's folder.
        allow_factory: factories that a custom run may run, as `MODULE:NAME`.

    Raises:
        RequestError: the path is no finished run, it is damaged, or its factory is not allowed.
    """
    return LoadedRun.of(read_run(Path(path)), allow_factory)


@naming_arguments()
def load_artifact(
    path: Path | str, *, allow_factory: Collection[str] = (), revision: str | None = None
) -> LoadedArtifact:
    """Open an artifact: `load_artifact(folder).module()` is the standalone module.

    Args:
        path: the artifact's folder, or its name on the Hugging Face Hub, `user/name`. It is
            downloaded into the hub's cache then.
        allow_factory: factories that a custom artifact may run, as `MODULE:NAME`.
        revision: branch, tag or commit on the hub; by default `main`.

    Raises:
        RequestError: the path is no artifact, it is damaged, or its factory is not allowed.
        WorkError: the hub cannot be reached, or it has no such artifact.
    """
    folder = Path(path)
    if isinstance(path, str) and not folder.exists() and is_hub_name(path):
        folder = download(path, repr(path), revision)
    elif revision is not None:
        raise RequestError(f"{path} is not a name on the hub: revision is only for those")
    return LoadedArtifact.of(read_artifact(folder), allow_factory)
