"""The tracker `mlflow`: an MLflow server, or a database in the run's folder."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sortednet_cli.engine.training.trackers.base import PROJECT, Tracker, kept_id, require, spec_of
from sortednet_cli.errors import shortened
from sortednet_cli.logs import logger

_SERVER, _EXPERIMENT = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"
_MOST_PARAMS = 100
"""Parameters that one request may hold."""
_LONGEST = 500
"""Most characters of a parameter that older servers take too."""
_KEY = re.compile(r"[\w./ -]{1,250}", re.ASCII)
"""Names of parameters that every server takes."""


class MLflow(Tracker):
    """Records into one MLflow run; `MLFLOW_TRACKING_URI` names the server."""

    @classmethod
    def check(cls) -> None:
        needed = ("mlflow",) if os.environ.get(_SERVER) else ("mlflow", "sqlalchemy", "alembic")
        require("mlflow", *needed)

    def __init__(self, run: Path, first: int) -> None:
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):  # they tell every table that a new database gets
            logging.getLogger(name).setLevel(logging.WARNING)
        folder = run / "mlflow"
        folder.mkdir(exist_ok=True)
        server, artifacts = os.environ.get(_SERVER), None
        if not server:
            server = f"sqlite:///{(folder / 'mlflow.db').absolute().as_posix()}"
            artifacts = (folder / "artifacts").absolute().as_uri()
            logger.info(
                "the tracker 'mlflow' has no %s: the record stays in %s; show it with:"
                " mlflow ui --backend-store-uri sqlite:///%s",
                *(_SERVER, folder, folder / "mlflow.db"),
            )
        self._client = MlflowClient(tracking_uri=server)
        self._id = kept_id(folder, lambda: self._create(run, artifacts))
        self._client.update_run(self._id, status="RUNNING")
        history = self._client.get_metric_history(self._id, "train/loss")
        self._last = max((metric.step for metric in history), default=0)

    def _create(self, run: Path, artifacts: str | None) -> str:
        """Create a run with the spec as parameters and as a file; return its id."""
        from mlflow.entities import Param

        name = os.environ.get(_EXPERIMENT, PROJECT)
        known = self._client.get_experiment_by_name(name)
        experiment = (
            known.experiment_id if known else self._client.create_experiment(name, artifacts)
        )
        made = self._client.create_run(experiment, run_name=run.name)
        spec = {key: str(value) for key, value in _flat(spec_of(run))}
        params = [Param(key, spec[key][:_LONGEST]) for key in spec if _KEY.fullmatch(key)]
        for start in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(made.info.run_id, params=params[start : start + _MOST_PARAMS])
        self._client.log_artifact(made.info.run_id, str(run / "spec.toml"))
        misfits = [key for key in spec if len(spec[key]) > _LONGEST or not _KEY.fullmatch(key)]
        if misfits:
            logger.info(
                "MLflow's parameters cannot hold %s whole: see spec.toml among the run's artifacts",
                shortened(misfits),
            )
        return str(made.info.run_id)

    def record(self, update: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        if update <= self._last:  # recorded before the training was resumed, with the same values
            return
        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, update) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def record_frontier(self, rows: Sequence[Mapping[str, Any]], picture: Path) -> None:
        self._client.log_dict(self._id, {"submodels": list(rows)}, "submodels.json")
        self._client.log_artifact(self._id, str(picture))

    def close(self) -> None:
        self._client.set_terminated(self._id, "FAILED" if self.failed else "FINISHED")


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys of nested tables, such as `train.lr`, and their values."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
