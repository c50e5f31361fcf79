"""Checkpoints: complete folders, and one small pointer file that names the newest."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sortednet_cli.errors import RequestError
from sortednet_cli.storage.files import new_folder, write_json, write_text
from sortednet_cli.storage.manifest import Counters, read_checked
from sortednet_cli.storage.run import RunFolder
from sortednet_cli.storage.tensors import Whole, as_it_is, read_tensors, write_tensors

_WEIGHTS = "weights.safetensors"
_OPTIMIZER = "optimizer.safetensors"


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
        return self.path / _WEIGHTS

    @property
    def optimizer(self) -> Path:
        return self.path / _OPTIMIZER


def is_written(run: RunFolder, update: int) -> bool:
    """Whether a checkpoint of that update is on disk: then `save_checkpoint` asks no values."""
    return (run.checkpoints / f"step-{update}").exists()


def save_checkpoint(run: RunFolder, state: Checkpoint, whole: Whole = as_it_is) -> None:
    """Write a checkpoint, point to it, and drop the ones before it.

    Args:
        whole: makes whole what is written; first of all weights, then of the optimizer's state,
            each `in_file_order`.
    """
    name = f"step-{state.update}"
    if not is_written(run, state.update):
        with new_folder(run.checkpoints / name) as staging:
            write_tensors(staging / _WEIGHTS, state.weights, whole)
            write_tensors(staging / _OPTIMIZER, state.optimizer, whole)
            counters = Counters(
                update=state.update,
                batches=state.batches,
                seconds=state.seconds,
                space=state.space,
            )
            write_json(staging / "counters.json", counters.model_dump())
    write_text(run.checkpoints / "latest", name + "\n")
    for other in run.checkpoints.glob("step-*"):
        if other.name != name:
            shutil.rmtree(other, ignore_errors=True)


def newest_checkpoint(run: RunFolder) -> CheckpointFolder | None:
    """Find the newest checkpoint; None if there is none yet."""
    pointer = run.checkpoints / "latest"
    if not pointer.exists():
        return None
    name = pointer.read_text(encoding="utf-8", errors="replace").strip()
    folder = run.checkpoints / name
    if not name.startswith("step-") or not folder.is_dir():
        raise RequestError(f"{pointer} is damaged: it names {name!r}, which is not there")
    return CheckpointFolder(folder, read_checked(folder / "counters.json", Counters))


def load_checkpoint(run: RunFolder) -> Checkpoint | None:
    """Read the newest checkpoint; None if there is none yet."""
    found = newest_checkpoint(run)
    if found is None:
        return None
    counters = found.counters
    return Checkpoint(
        update=counters.update,
        batches=counters.batches,
        seconds=counters.seconds,
        space=counters.space,
        weights=read_tensors(found.weights),
        optimizer=read_tensors(found.optimizer),
    )
