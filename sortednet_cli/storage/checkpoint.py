"""Checkpoints: complete folders, and one small pointer file that names the newest."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass

from torch import Tensor

from sortednet_cli.bounded import read_bounded
from sortednet_cli.errors import RequestError
from sortednet_cli.storage.files import new_folder, write_json, write_text
from sortednet_cli.storage.manifest import Counters, read_checked
from sortednet_cli.storage.run import RunFolder
from sortednet_cli.storage.tensors import read_tensors, write_tensors

_LONGEST_NAME = 100

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


def save_checkpoint(run: RunFolder, state: Checkpoint) -> None:
    """Write a checkpoint, point to it, and drop the ones before it."""
    name = f"step-{state.update}"
    folder = run.checkpoints / name
    if not folder.exists():
        with new_folder(folder) as staging:
            write_tensors(staging / "weights.safetensors", state.weights)
            write_tensors(staging / "optimizer.safetensors", state.optimizer)
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


def load_checkpoint(run: RunFolder, most: int | None = None) -> Checkpoint | None:
    """Read the newest checkpoint; None if there is none yet.

    Args:
        most: bytes of the model's weights, which bound those of the files.

    Raises:
        RequestError: it is damaged.
    """
    pointer = run.checkpoints / "latest"
    if not pointer.exists():
        return None
    try:
        name = read_bounded(pointer, _LONGEST_NAME).decode(errors="replace").strip()
    except OSError as error:
        raise RequestError(f"{pointer} is damaged: {error.strerror}") from error
    folder = run.checkpoints / name
    if not re.fullmatch(r"step-[0-9]+", name) or not folder.is_dir():
        raise RequestError(f"{pointer} is damaged: it names {name!r}, which is not there")
    counters = read_checked(folder / "counters.json", Counters)
    return Checkpoint(
        update=counters.update,
        batches=counters.batches,
        seconds=counters.seconds,
        space=counters.space,
        weights=read_tensors(folder / "weights.safetensors", most=most),
        optimizer=read_tensors(
            folder / "optimizer.safetensors",
            most=None if most is None else _OPTIMIZER_GROWTH * most + _OPTIMIZER_REST,
        ),
    )
