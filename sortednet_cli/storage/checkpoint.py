"""Checkpoints: complete folders, and one small pointer file that names the newest."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sortednet_cli.storage.checks import Checks, checks_of, write_sealed
from sortednet_cli.storage.files import new_folder, write_text, writing
from sortednet_cli.storage.manifest import FORMAT, Counters
from sortednet_cli.storage.run import RunFolder
from sortednet_cli.storage.tensors import Whole, as_it_is, read_tensors, write_tensors

_OPTIMIZER_GROWTH = 8
"""Most bytes of an optimizer for one of the weights: two of four bytes each for one of two."""

_OPTIMIZER_REST = 1 << 24
"""Bytes of its counters."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after `update` whole updates.

    `batches` counts the training batches of all processes; `space` is the search space.
    """

    update: int
    batches: int
    seconds: float
    space: dict[str, list[int | float]]
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]


@dataclass(frozen=True)
class CheckpointFolder:
    """A checkpoint on disk, of which parts can be read."""

    path: Path
    counters: Counters

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def optimizer(self) -> Path:
        return self.path / "optimizer.safetensors"

    def verify(self) -> None:
        """Check both files before they are believed; RequestError names a damaged one."""
        checks = Checks(self.path / "counters.json", self.counters.files)
        checks.verify(self.weights, self.optimizer)


def is_written(run: RunFolder, update: int) -> bool:
    """Whether a checkpoint of that update is on disk: then `save_checkpoint` asks no values."""
    return run.pointed() == run.checkpoint(update)


def save_checkpoint(run: RunFolder, state: Checkpoint, whole: Whole = as_it_is) -> None:
    """Write a checkpoint, point to it, and drop all others.

    Args:
        whole: makes whole what is written; first of all weights, then of the optimizer's state,
            each `in_file_order`.

    Raises:
        WorkError: it cannot be written; the run still points to the one before it.
    """
    folder = run.checkpoint(state.update)
    with writing(run.checkpoints):
        run.checkpoints.mkdir(exist_ok=True)
    run.sync_log()
    if not is_written(run, state.update):
        shutil.rmtree(folder, ignore_errors=True)  # of a process that died before it pointed there
        _write(folder, state, whole)
        write_text(run.pointer, folder.name + "\n")
    for other in run.checkpoints.glob("step-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


def _write(folder: Path, state: Checkpoint, whole: Whole) -> None:
    counters = Counters(
        update=state.update, batches=state.batches, seconds=state.seconds, space=state.space
    )
    with new_folder(folder) as staging:
        made = CheckpointFolder(staging, counters)
        tensors = {made.weights: state.weights, made.optimizer: state.optimizer}
        known = {path: write_tensors(path, own, whole=whole) for path, own in tensors.items()}
        files = checks_of(staging, known, known)
        table = {"format": FORMAT, **counters.model_dump(), "files": files}
        write_sealed(staging / "counters.json", table)


def newest_checkpoint(run: RunFolder) -> CheckpointFolder | None:
    """Find the newest checkpoint; None if there is none yet."""
    found = run.newest_checkpoint()
    return None if found is None else CheckpointFolder(*found)


def load_checkpoint(run: RunFolder, most: int | None = None) -> Checkpoint | None:
    """Read the newest checkpoint; None if there is none yet.

    Args:
        most: bytes of the model's weights, which bound those of the files.

    Raises:
        RequestError: it is damaged.
    """
    found = newest_checkpoint(run)
    if found is None:
        return None
    found.verify()
    counters = found.counters
    return Checkpoint(
        update=counters.update,
        batches=counters.batches,
        seconds=counters.seconds,
        space=counters.space,
        weights=read_tensors(found.weights, most=most),
        optimizer=read_tensors(
            found.optimizer,
            most=None if most is None else _OPTIMIZER_GROWTH * most + _OPTIMIZER_REST,
        ),
    )
