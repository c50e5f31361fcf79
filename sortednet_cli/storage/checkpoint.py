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
from sortednet_cli.storage.tensors import read_tensors, write_tensors


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


def save_checkpoint(run: RunFolder, state: Checkpoint) -> None:
    """Write a checkpoint, point to it, and drop all others.

    Raises:
        WorkError: it cannot be written; the run still points to the one before it.
    """
    folder = run.checkpoints / f"step-{state.update}"
    with writing(run.checkpoints):
        run.checkpoints.mkdir(exist_ok=True)
    run.sync_log()
    if run.pointed() != folder:
        shutil.rmtree(folder, ignore_errors=True)  # of a process that died before it pointed there
        _write(folder, state)
        write_text(run.pointer, folder.name + "\n")
    for other in run.checkpoints.glob("step-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


def _write(folder: Path, state: Checkpoint) -> None:
    with new_folder(folder) as staging:
        tensors = {
            staging / "weights.safetensors": state.weights,
            staging / "optimizer.safetensors": state.optimizer,
        }
        known = {path: write_tensors(path, values) for path, values in tensors.items()}
        counters = Counters(
            update=state.update,
            batches=state.batches,
            seconds=state.seconds,
            space=state.space,
        )
        files = checks_of(staging, known, known)
        table = {"format": FORMAT, **counters.model_dump(), "files": files}
        write_sealed(staging / "counters.json", table)


def load_checkpoint(run: RunFolder) -> Checkpoint | None:
    """Read the newest checkpoint; None if there is none yet."""
    newest = run.newest_checkpoint()
    if newest is None:
        return None
    folder, counters = newest
    weights, optimizer = folder / "weights.safetensors", folder / "optimizer.safetensors"
    Checks(folder / "counters.json", counters.files).verify(weights, optimizer)
    return Checkpoint(
        update=counters.update,
        batches=counters.batches,
        seconds=counters.seconds,
        space=counters.space,
        weights=read_tensors(weights),
        optimizer=read_tensors(optimizer),
    )
