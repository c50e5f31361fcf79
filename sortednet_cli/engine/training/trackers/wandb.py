"""The tracker `wandb`: Weights & Biases, or its files on this machine where nobody is logged in."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
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


class WandB(Tracker):
    """Records into the run of one id; the variables `WANDB_...` say where, as for all of wandb."""

    @classmethod
    def check(cls) -> None:
        require("wandb", "wandb")

    def __init__(self, run: Path, first: int) -> None:
        import wandb

        # Standard output is data; what the service says of itself is told below.
        quiet = wandb.Settings(silent=True, console="off")
        wandb.setup(settings=quiet)
        mode = None
        if not (os.environ.get("WANDB_MODE") or wandb.login(prompt=False, verify=False)):
            mode = "offline"
            logger.info(
                "the tracker 'wandb' has no API key: the record stays in %s; upload it with:"
                " wandb sync %s/offline-run-*",
                run / "wandb",
                run / "wandb",
            )
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", run.name),
            dir=str(run),
            id=kept_id(run / "wandb", lambda: token_hex(8)),
            resume="allow",
            mode=mode,
            config=spec_of(run),
            settings=quiet,
        )

    def record(self, update: int, values: Mapping[str, float]) -> None:
        # Of updates that are recorded again the service keeps the first values, which are the same.
        self._run.log(dict(values), step=update)

    def record_frontier(self, rows: Sequence[Mapping[str, Any]], picture: Path) -> None:
        import wandb

        columns, data = flat_table(rows)
        table = wandb.Table(columns=columns, data=data)
        self._run.log({"frontier": wandb.Image(str(picture)), "submodels": table})

    def close(self) -> None:
        self._run.finish(exit_code=int(self.failed))
