"""Read the description of a run, an artifact or a stock checkpoint. Needs no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path

from sortednet_cli.errors import RequestError
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import AnyDataSpec, ImageDataSpec, TextDataSpec
from sortednet_cli.spec.data import data_kind
from sortednet_cli.spec.data_sources import find_data
from sortednet_cli.spec.factories import check_allowed
from sortednet_cli.spec.families import CAUSAL_TASKS
from sortednet_cli.spec.measures import Measure, measure_of
from sortednet_cli.storage.artifact import ArtifactFolder
from sortednet_cli.storage.checks import Checks
from sortednet_cli.storage.exit_thresholds import require_thresholds
from sortednet_cli.storage.manifest import (
    ArtifactManifest,
    RunManifest,
    StoredRow,
    StoredTextFormat,
)
from sortednet_cli.storage.pretrained import open_pretrained
from sortednet_cli.storage.run import RunFolder
from sortednet_cli.storage.shards import ADAPTER, CONFIG


@dataclass(frozen=True)
class StoredSource:
    """Description of a source that sub-models are cut from, after its small files are verified.

    A stock checkpoint has no manifest and no search space.

    Attributes:
        path: the folder.
        name: the run's name, for messages and file names.
        data: the spec of the data it was trained on.
        manifest: the manifest of a run or an artifact.
        space: the sub-models that can be cut from it.
        rows: the stored table of sub-models.
        checks: the checksums of its files.
        channels_last: whether it was trained in the channels-last memory format.
    """

    path: Path
    name: str
    data: AnyDataSpec
    manifest: RunManifest | ArtifactManifest | None = None
    space: SearchSpace | None = None
    rows: tuple[StoredRow, ...] = field(default=(), repr=False)
    checks: Checks | None = field(default=None, repr=False)
    channels_last: bool = False

    @property
    def kind(self) -> str:
        """Kind of its inputs: `image` or `text`."""
        return data_kind(self.data)

    @property
    def task(self) -> str | None:
        """The task that its manifest names; None for a stock checkpoint."""
        if self.manifest is None:
            return None
        form = self.manifest.data
        return form.task if isinstance(form, StoredTextFormat) else "classification"

    @property
    def measure(self) -> Measure:
        """What its sub-models are compared by, where it stores their scores."""
        return measure_of(self.task or "")

    @property
    def factory(self) -> str | None:
        """The factory of a custom model, as `MODULE:NAME`."""
        factory = self.manifest and self.manifest.root.declaration.get("factory")
        return None if factory is None else str(factory)

    def check_allowed(self, allowed: Collection[str]) -> None:
        """Raise RequestError if it names a factory that the user has not allowed."""
        if self.factory is not None:
            check_allowed(self.factory, allowed)

    def check_axes(self, axes: Mapping[str, int | float]) -> None:
        """Raise RequestError if there is no such sub-model."""
        if self.space is not None:
            self.space.resolve(axes)

    def check_data(self, path: Path | None) -> None:
        """Raise RequestError if there is no data at `path`, or at its own path by default."""
        find_data(data_at(self.data, path))

    def check_causal(self) -> None:
        """Raise RequestError if its manifest says that it is not a causal language model."""
        if self.task is not None:
            check_causal(self.path, self.task)

    def check_calibrated(self, axes: Mapping[str, int | float]) -> None:
        """Raise RequestError if a sub-model has no thresholds for early exit."""
        if self.space is not None:
            require_thresholds(self.path, self.space.resolve(axes))


def read_source(path: Path) -> StoredSource:
    """Read the description of a run, an artifact or a stock checkpoint.

    Raises:
        RequestError: it is none of these, or it is unfinished or damaged.
    """
    if ArtifactFolder.is_one(path):
        return read_artifact(path)
    return read_checkpoint(path) if is_checkpoint(path) else read_run(path)


def is_checkpoint(path: Path) -> bool:
    """Whether a folder that is not an artifact looks like a stock checkpoint or an adapter.

    Missing files are reported when it is opened.
    """
    return any((path / name).is_file() for name in (CONFIG, ADAPTER))


def read_checkpoint(path: Path) -> StoredSource:
    """Describe a stock checkpoint; RequestError if a file is missing or damaged."""
    config = open_pretrained(str(path)).config
    data: AnyDataSpec = TextDataSpec(source="text")
    if "image_size" in config:
        data = ImageDataSpec(source="image-folder")
    return StoredSource(path, path.resolve().name, data)


def read_run(path: Path) -> StoredSource:
    """Describe a finished run; RequestError if it is unfinished, damaged or not a run."""
    run = RunFolder.open(path)
    run.require_finished()
    spec, checks = run.spec(), run.checks()
    checks.verify_all_but("weights.safetensors", "statistics.safetensors", "metrics.jsonl")
    return StoredSource(
        path=run.path,
        name=spec.name,
        manifest=run.manifest(),
        space=SearchSpace.of(spec.space),
        data=spec.data,
        rows=run.rows(),
        checks=checks,
        channels_last=spec.train.in_channels_last,
    )


def read_artifact(path: Path) -> StoredSource:
    """Describe an artifact; RequestError if it is damaged or not an artifact."""
    folder = ArtifactFolder.open(path)
    manifest = folder.manifest()
    return StoredSource(
        path=folder.path,
        name=manifest.run,
        manifest=manifest,
        space=SearchSpace.of(manifest.space),
        data=manifest.data_spec,
        rows=manifest.submodels,
        checks=folder.checks(manifest),
    )


def require_scores(path: Path, rows: Sized) -> None:
    """Raise RequestError if the source at `path` stores no rows, so it was never scored."""
    if not rows:
        raise RequestError(
            f"{path} has no scores to choose by: it does not come from a run of `sortednet train`;"
            " to extract from it, name a sub-model by --width and --depth"
        )


def data_at(data: AnyDataSpec, path: Path | str | None) -> AnyDataSpec:
    """Return the data spec with `path` instead of its own, if one is given."""
    if path is None:
        return data
    return data.model_copy(update={"path": str(Path(path).absolute())})


def check_causal(path: Path, task: str) -> None:
    """Raise RequestError unless `task` is causal; `path` is the model's folder."""
    if task not in CAUSAL_TASKS:
        raise RequestError(
            f"{path} is for {task}: only models for {' or '.join(CAUSAL_TASKS)} generate text"
        )
