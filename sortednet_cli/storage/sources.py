"""What a finished run or an artifact says of itself, before its network is opened. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path

from sortednet_cli.errors import RequestError, listed
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import AnyDataSpec, TextDataSpec
from sortednet_cli.spec.data import data_kind
from sortednet_cli.spec.data_sources import find_data
from sortednet_cli.spec.factories import check_allowed
from sortednet_cli.spec.families import CAUSAL_TASKS
from sortednet_cli.storage.artifact import ArtifactFolder
from sortednet_cli.storage.calibration import require_calibration
from sortednet_cli.storage.checks import Checks
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
    """What sub-models are cut out of, in words; its small files compared with their checksums.

    Of a stock checkpoint little is known: no manifest, search space or task.

    Attributes:
        path: the folder.
        name: the run's name, for people and file names.
        data: where its data came from.
        manifest: of a run or an artifact.
        space: the sub-models that can be cut out of it.
        rows: the stored table of sub-models.
        checks: checksums of its files.
        channels_last: whether it was trained in that memory format.
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
        """What its inputs are: `image` or `text`."""
        return data_kind(self.data)

    def check_allowed(self, allowed: Collection[str]) -> None:
        """RequestError if it names a factory that the user has not allowed."""
        factory = self.manifest and self.manifest.root.declaration.get("factory")
        if factory is not None:
            check_allowed(str(factory), allowed)

    def check_axes(self, axes: Mapping[str, int | float]) -> None:
        """RequestError if there is no such sub-model."""
        if self.space is not None:
            self.space.resolve(axes)

    def check_data(self, path: Path | None) -> None:
        """RequestError if there are no data at `path`, or where its own were."""
        find_data(data_at(self.data, path))

    def check_causal(self) -> None:
        """RequestError if it is known not to continue texts."""
        if self.manifest is not None:
            form = self.manifest.data
            task = form.task if isinstance(form, StoredTextFormat) else "classification"
            check_causal(self.path, task)

    def check_calibrated(self, axes: Mapping[str, int | float]) -> None:
        """RequestError if a sub-model has no thresholds for early exit."""
        if self.space is not None:
            require_calibration(self.path, self.space.resolve(axes))


def read_source(path: Path) -> StoredSource:
    """Read what a run, an artifact or a stock checkpoint says of itself.

    Raises:
        RequestError: it is none of them, it is unfinished or damaged.
    """
    if ArtifactFolder.is_one(path):
        return read_artifact(path)
    return read_checkpoint(path) if is_checkpoint(path) else read_run(path)


def is_checkpoint(path: Path) -> bool:
    """Whether a folder that is no artifact looks like a stock checkpoint, or what is made for one.

    What it lacks is said when it is opened.
    """
    return any((path / name).is_file() for name in (CONFIG, ADAPTER))


def read_checkpoint(path: Path) -> StoredSource:
    """Read what there is to a stock checkpoint; RequestError if a file is missing or damaged."""
    open_pretrained(str(path))
    return StoredSource(path, path.resolve().name, TextDataSpec(source="text"))


def read_run(path: Path) -> StoredSource:
    """Read a finished run; RequestError if it is none, unfinished or damaged."""
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
        channels_last=spec.train.channels_last,
    )


def read_artifact(path: Path) -> StoredSource:
    """Read an artifact; RequestError if it is none or damaged."""
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
    """RequestError for a source at `path` that stores no row: it was never scored."""
    if not rows:
        raise RequestError(f"{path} has no scores: no training of this tool wrote it")


def data_at(data: AnyDataSpec, path: Path | str | None) -> AnyDataSpec:
    """A data spec with another path, if one is given."""
    if path is None:
        return data
    return data.model_copy(update={"path": str(Path(path).absolute())})


def check_causal(path: Path, task: str) -> None:
    """RequestError unless the models of a task continue texts; `path` is one's folder."""
    if task not in CAUSAL_TASKS:
        raise RequestError(
            f"{path} is for {task}: only models for {listed(CAUSAL_TASKS)} continue a text"
        )
