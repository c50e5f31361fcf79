"""Calibrated exits of causal models: one small file in a run or an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from sortednet_cli.space import SubModel
from sortednet_cli.storage.files import read_json, write_json
from sortednet_cli.storage.lock import held
from sortednet_cli.storage.manifest import check

FILE = "decoding.json"

_PATIENCE_SECONDS = 10.0

Share = Annotated[float, Field(ge=0, le=1)]


class StoredExit(BaseModel):
    """One exit: the least confidence to leave with, and what left there when it was measured.

    `share` is of all tokens; `agreement` is the share of these that the whole model says too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: Share
    share: Share
    agreement: Share


class Calibration(BaseModel):
    """The exits of one sub-model, by depth.

    `target` is the agreement that was asked for, `agreement` what all `tokens` together have.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: Share
    agreement: Share
    tokens: Annotated[int, Field(gt=0)]
    exits: dict[int, StoredExit]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    submodels: dict[str, Calibration]


def read_calibration(folder: Path, submodel: SubModel) -> Calibration | None:
    """Read a sub-model's calibration, if there is one; RequestError if the file is damaged."""
    return _read(folder).get(submodel.name)


def write_calibration(folder: Path, submodel: SubModel, calibration: Calibration) -> Path:
    """Add a sub-model's calibration, or replace it; return the file.

    Raises:
        RequestError: another process has been writing into the folder for long.
    """
    with held(folder, _PATIENCE_SECONDS):  # what another one adds meanwhile stays
        _write(folder, {**_read(folder), submodel.name: calibration})
    return folder / FILE


def copy_calibration(source: Path, target: Path, submodel: SubModel) -> None:
    """Carry a sub-model's calibration into its artifact, if there is one."""
    if found := read_calibration(source, submodel):
        _write(target, {submodel.name: found})


def _read(folder: Path) -> dict[str, Calibration]:
    file = folder / FILE
    return check(read_json(file), file, _File).submodels if file.exists() else {}


def _write(folder: Path, submodels: dict[str, Calibration]) -> None:
    write_json(folder / FILE, _File(submodels=submodels).model_dump(mode="json"))
