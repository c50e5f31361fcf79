"""Trainings that stop and go on: the bytes must be those of one that never stopped."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from sortednet_cli.engine.training.events import Interrupted
from sortednet_cli.engine.training.start import create_session, reopen_session
from sortednet_cli.spec import RunSpec, load_preset

CPU = torch.device("cpu")
OPENING = (
    "train.updates=4",
    "train.smallest_first=0.99",
    "train.batch_size=16",
    "train.recalibrate_samples=16",
    "model.config.channels=[4]",
    "space.width=[0.5,1.0]",
    "space.depth=[8]",
)
"""Two widths of the digits; the second opens after two of four updates."""


def opening(*settings: str) -> RunSpec:
    """The spec of a short training in which a width opens, with other settings beside."""
    return load_preset("digits-resnet", [*OPENING, *settings])


def check_resumes(spec: RunSpec, folder: Path, stops: Iterable[int] = (1, 2, 3)) -> None:
    """Train once straight, and once for each number of questions after which it stops."""
    straight = create_session(folder / "straight", spec, CPU)
    list(straight.events())
    for count in stops:
        broken = create_session(folder / f"stopped-{count}", spec, CPU)
        calls = iter(range(100))
        with pytest.raises(Interrupted):
            list(broken.events(lambda calls=calls, count=count: next(calls) >= count))  # type: ignore[misc]
        list(reopen_session(broken.run, CPU, ()).events())
        assert broken.run.weights.read_bytes() == straight.run.weights.read_bytes(), count
