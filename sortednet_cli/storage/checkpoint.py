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
from sortednet_cli.storage.tensor_writer import Gather, unchanged, write_tensors
from sortednet_cli.storage.tensors import read_tensors

_OPTIMIZER_GROWTH = 8
"""Upper bound on optimizer bytes per weight byte: two float32 states for a weight of two bytes
make 4, and the bound leaves room for twice that."""

_OPTIMIZER_COUNTERS = 1 << 24
"""Upper bound on the bytes of the optimizer's step counters."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after `update` complete updates.

    `batches` counts the training batches of all processes together, `nonfinite` the updates that
    were passed over as their loss was not finite; `space` is the search space.
    """

    update: int
    batches: int
    seconds: float
    space: dict[str, list[int | float]]
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    nonfinite: int = 0


@dataclass(frozen=True)
class CheckpointFolder:
    """A checkpoint on disk; its files can be read one by one."""

    path: Path
    counters: Counters

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def optimizer(self) -> Path:
        return self.path / "optimizer.safetensors"

    def verify(self) -> None:
        """Compare both files with their checksums; RequestError names a damaged one."""
        checks = Checks(self.path / "counters.json", self.counters.files)
        checks.verify(self.weights, self.optimizer)


def is_written(run: RunFolder, update: int) -> bool:
    """Whether that update's checkpoint is on disk; if so `save_checkpoint` writes no tensors."""
    return run.pointed_checkpoint() == run.checkpoint(update)


def save_checkpoint(run: RunFolder, state: Checkpoint, gather: Gather = unchanged) -> None:
    """Write a checkpoint, point to it, and remove all others.

    Args:
        gather: returns the full tensor of a sharded one. It is called for each weight, then for
            each tensor of the optimizer's state, both `in_file_order`.

    Raises:
        WorkError: it cannot be written; the run still points to the previous checkpoint.
    """
    folder = run.checkpoint(state.update)
    with writing(run.checkpoints):
        run.checkpoints.mkdir(exist_ok=True)
    run.sync_log()
    if not is_written(run, state.update):
        # A process that died before it moved the pointer may have left this folder.
        shutil.rmtree(folder, ignore_errors=True)
        _write(folder, state, gather)
        write_text(run.pointer, folder.name + "\n")
    for other in run.checkpoints.glob("step-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


def _write(folder: Path, state: Checkpoint, gather: Gather) -> None:
    counters = Counters(
        update=state.update,
        batches=state.batches,
        seconds=state.seconds,
        space=state.space,
        nonfinite=state.nonfinite,
    )
    with new_folder(folder) as staging:
        checkpoint = CheckpointFolder(staging, counters)
        files = {checkpoint.weights: state.weights, checkpoint.optimizer: state.optimizer}
        checks = {
            path: write_tensors(path, tensors, gather=gather) for path, tensors in files.items()
        }
        stored = checks_of(staging, checks, checks)
        table = {"format": FORMAT, **counters.model_dump(), "files": stored}
        write_sealed(staging / "counters.json", table)


def newest_checkpoint(run: RunFolder) -> CheckpointFolder | None:
    """Find the newest checkpoint, or None."""
    newest = run.newest_checkpoint()
    return None if newest is None else CheckpointFolder(*newest)


def load_checkpoint(run: RunFolder, most: int | None = None) -> Checkpoint | None:
    """Read the newest checkpoint, or return None.

    Args:
        most: bytes of the model's weights; larger files are refused.

    Raises:
        RequestError: it is damaged or too large.
    """
    newest = newest_checkpoint(run)
    if newest is None:
        return None
    newest.verify()
    counters = newest.counters
    return Checkpoint(
        update=counters.update,
        batches=counters.batches,
        seconds=counters.seconds,
        space=counters.space,
        weights=read_tensors(newest.weights, most=most),
        optimizer=read_tensors(
            newest.optimizer,
            most=None if most is None else _OPTIMIZER_GROWTH * most + _OPTIMIZER_COUNTERS,
        ),
        nonfinite=counters.nonfinite,
    )
