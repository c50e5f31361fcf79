"""Thresholds for early exit of causal models: one small file in a run or an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from sortednet_cli.errors import RequestError, as_word
from sortednet_cli.space import SubModel
from sortednet_cli.storage.checks import DIGEST, read_sealed, write_sealed
from sortednet_cli.storage.lock import write_lock
from sortednet_cli.storage.manifest import check

FILE = "decoding.json"

_PATIENCE_SECONDS = 10.0

Fraction = Annotated[float, Field(ge=0, le=1)]


class StoredExit(BaseModel):
    """One exit: its confidence threshold, and what was measured with it.

    Attributes:
        threshold: the least confidence with which a token leaves here.
        share: the fraction of all tokens that leave here.
        agreement: the fraction of those that the full depth predicts too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: Fraction
    share: Fraction
    agreement: Fraction


class ExitThresholds(BaseModel):
    """The exits of one sub-model, keyed by depth.

    Attributes:
        target: the agreement the user asked for.
        agreement: the agreement measured over all `tokens`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: Fraction
    agreement: Fraction
    tokens: Annotated[int, Field(gt=0)]
    exits: dict[int, StoredExit]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    submodels: dict[str, ExitThresholds]


def read_thresholds(folder: Path, submodel: SubModel) -> ExitThresholds | None:
    """Read a sub-model's thresholds, or None; RequestError if the file is damaged."""
    return _read(folder).get(submodel.name)


def require_thresholds(folder: Path, submodel: SubModel) -> ExitThresholds:
    """Read a sub-model's thresholds; if there are none, RequestError says how to measure them."""
    thresholds = read_thresholds(folder, submodel)
    if thresholds is None:
        raise RequestError(
            f"{folder} holds no thresholds for {submodel}; run"
            f" `sortednet generate --calibrate {as_word(folder)}{_options(submodel)}` first"
        )
    return thresholds


def _options(submodel: SubModel) -> str:
    """The options of a command that name a sub-model."""
    named = {"width": "--width ", "depth": "--depth "}
    return "".join(
        f" {named.get(axis, f'--axis {axis}=')}{value:g}" for axis, value in submodel.axes.items()
    )


def write_thresholds(folder: Path, submodel: SubModel, thresholds: ExitThresholds) -> Path:
    """Add or replace a sub-model's thresholds; return the file.

    The file carries its own digest, so the folder's manifest need not name it and one write
    replaces it whole.

    Raises:
        RequestError: another process keeps the folder locked.
    """
    _read(folder)  # refuses a damaged file before anything is written
    with write_lock(folder, _PATIENCE_SECONDS):  # keeps what another process adds meanwhile
        _write(folder, {**_read(folder), submodel.name: thresholds})
    return folder / FILE


def copy_thresholds(source: Path, target: Path, submodel: SubModel) -> None:
    """Copy a sub-model's thresholds into its artifact, if it has any."""
    if thresholds := read_thresholds(source, submodel):
        _write(target, {submodel.name: thresholds})


def check_thresholds(folder: Path) -> Path | None:
    """Validate the file and return its path, or None; RequestError if it is damaged."""
    _read(folder)
    return folder / FILE if (folder / FILE).exists() else None


def _read(folder: Path) -> dict[str, ExitThresholds]:
    file = folder / FILE
    if not file.exists():
        return {}
    table = read_sealed(file, required=False)  # format 1 has no digest
    table.pop(DIGEST, None)
    return check(table, file, _File).submodels


def _write(folder: Path, submodels: dict[str, ExitThresholds]) -> None:
    write_sealed(folder / FILE, _File(submodels=submodels).model_dump(mode="json"))
