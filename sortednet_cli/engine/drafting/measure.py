"""The time of an update, measured by training a few."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from sortednet_cli.engine.requests import TrainRequest
from sortednet_cli.engine.training.events import Event, Updated
from sortednet_cli.engine.training.train import train
from sortednet_cli.spec import RunSpec

_UPDATES = 10


def measured_update(spec: RunSpec, device: str) -> float:
    """Train ten updates after a first one, which warms up; return the mean seconds of each."""
    settings = {"log_every": 1, "updates": _UPDATES + 1, "epochs": None}
    short = spec.model_copy(update={"train": spec.train.model_copy(update=settings)})
    with TemporaryDirectory() as folder:
        request = TrainRequest(short, Path(folder) / "run", device=device)
        began = ended = 0.0
        events = cast(Generator[Event, None, None], train(request, lambda: False))
        with closing(events):
            for event in events:
                if isinstance(event, Updated) and event.update == 1:
                    began = time.monotonic()
                if isinstance(event, Updated) and event.update == event.total:
                    ended = time.monotonic()  # what closes the training is no update
                    break
        return (ended - began) / _UPDATES
