"""The tracker `trackio`: its database on this machine, or the Space or server it is told of."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from secrets import token_hex
from typing import Any

from sortednet_cli.engine.training.trackers.base import (
    PROJECT,
    Tracker,
    flat_table,
    kept_id,
    require,
    spec_of,
)
from sortednet_cli.logs import logger

_PLACES = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


class Trackio(Tracker):
    """Records into the Trackio run of one name, which the run's folder keeps.

    The database is Trackio's own, where its dashboard finds every run of a machine.
    """

    @classmethod
    def check(cls) -> None:
        require("trackio", "trackio")

    def __init__(self, run: Path, first: int) -> None:
        import trackio

        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        if not any(os.environ.get(name) for name in _PLACES):
            logger.info(
                "the tracker 'trackio' has no %s: the record stays on this machine; show it with:"
                " trackio show --project %s",
                *(" or ".join(_PLACES), project),
            )
        with _silence():
            self._run = trackio.init(
                project=project,
                name=kept_id(run / "trackio", lambda: f"{run.name}-{token_hex(4)}"),
                resume="allow",
                config=spec_of(run),
                embed=False,
            )

    def record(self, update: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=update)

    def record_frontier(self, rows: Sequence[Mapping[str, Any]], picture: Path) -> None:
        import trackio

        columns, data = flat_table(rows)
        table = trackio.Table(columns=columns, data=data)
        self._run.log({"frontier": trackio.Image(str(picture)), "submodels": table})

    def close(self) -> None:
        import trackio

        with _silence():
            trackio.finish()


def _silence() -> redirect_stdout[io.StringIO]:
    """Drop what Trackio prints: standard output is data."""
    return redirect_stdout(io.StringIO())
