"""Scores on tasks of lm-eval: one small file in a run or an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from sortednet_cli.space import SubModel
from sortednet_cli.storage.checks import DIGEST, read_sealed, write_sealed
from sortednet_cli.storage.lock import write_lock
from sortednet_cli.storage.manifest import check

FILE = "harness.json"

_PATIENCE_SECONDS = 10.0


class HarnessScore(BaseModel):
    """What one sub-model scores on one task.

    Attributes:
        metrics: by lm-eval's own names, such as `acc,none` and `acc_stderr,none`.
        samples: how many samples of the task were scored.
        chat: whether questions were put in the tokenizer's chat template.
        version: version of the package lm-eval.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    metrics: dict[str, Annotated[float, Field(allow_inf_nan=False)]]
    samples: Annotated[int, Field(ge=0)]
    chat: bool
    version: str


Scores = Mapping[str, HarnessScore]
"""Scores of one sub-model by task."""


def numbers_of(scores: Scores) -> dict[str, dict[str, float]]:
    """Return the metrics of each task, and its number of samples."""
    return {task: {**score.metrics, "samples": score.samples} for task, score in scores.items()}


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    submodels: dict[str, dict[str, HarnessScore]]


def read_harness(folder: Path) -> dict[str, dict[str, HarnessScore]]:
    """Read the scores of each sub-model, by its name; RequestError if the file is damaged."""
    file = folder / FILE
    if not file.exists():
        return {}
    table = read_sealed(file, required=True)
    table.pop(DIGEST, None)
    return check(table, file, _File).submodels


def add_harness(folder: Path, submodel: SubModel, scores: Scores) -> Path:
    """Add scores of a sub-model, or replace those of the same tasks; return the file.

    The file carries its own digest, so the folder's manifest need not name it and one write
    replaces it whole.

    Raises:
        RequestError: the file is damaged, or another process keeps the folder locked.
    """
    read_harness(folder)  # refuses a damaged file before anything is written
    with write_lock(folder, _PATIENCE_SECONDS):  # keeps what another process adds meanwhile
        known = read_harness(folder)
        known[submodel.name] = {**known.get(submodel.name, {}), **scores}
        write_sealed(folder / FILE, _File(submodels=known).model_dump(mode="json"))
    return folder / FILE


def check_harness(folder: Path) -> Path | None:
    """Validate the file and return its path, or None; RequestError if it is damaged."""
    read_harness(folder)
    return folder / FILE if (folder / FILE).exists() else None
