"""Calibrated exits of causal models: one small file in a run or an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from sortednet_cli.errors import RequestError
from sortednet_cli.space import SubModel
from sortednet_cli.storage.checks import DIGEST, read_sealed, write_sealed
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


def require_calibration(folder: Path, submodel: SubModel) -> Calibration:
    """Read a sub-model's calibration; RequestError says how to make one."""
    found = read_calibration(folder, submodel)
    if found is None:
        raise RequestError(
            f"{folder} holds no thresholds for {submodel}; run"
            f" `sortednet generate --calibrate {folder}` first"
        )
    return found


def write_calibration(folder: Path, submodel: SubModel, calibration: Calibration) -> Path:
    """Add a sub-model's calibration, or replace it; return the file.

    The file is sealed by itself: the folder's manifest does not name it, and one write does.

    Raises:
        RequestError: another process has been writing into the folder for long.
    """
    _read(folder)  # a damaged one is refused before anything is written
    with held(folder, _PATIENCE_SECONDS):  # what another one adds meanwhile stays
        _write(folder, {**_read(folder), submodel.name: calibration})
    return folder / FILE


def copy_calibration(source: Path, target: Path, submodel: SubModel) -> None:
    """Carry a sub-model's calibration into its artifact, if there is one."""
    if found := read_calibration(source, submodel):
        _write(target, {submodel.name: found})


def check_calibration(folder: Path) -> Path | None:
    """Check the file whole and return it, if there is one; RequestError if it is damaged."""
    _read(folder)
    return folder / FILE if (folder / FILE).exists() else None


def _read(folder: Path) -> dict[str, Calibration]:
    file = folder / FILE
    if not file.exists():
        return {}
    table = read_sealed(file, required=False)  # those of format 1 are not sealed
    table.pop(DIGEST, None)
    return check(table, file, _File).submodels


def _write(folder: Path, submodels: dict[str, Calibration]) -> None:
    write_sealed(folder / FILE, _File(submodels=submodels).model_dump(mode="json"))
