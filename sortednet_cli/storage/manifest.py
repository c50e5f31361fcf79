"""Models of the JSON files in runs and artifacts. Everything read back is validated here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveInt,
    Tag,
    ValidationError,
    model_validator,
)

from sortednet_cli.errors import RequestError
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec import AnyDataSpec, Task
from sortednet_cli.spec.families import is_family, unknown_family
from sortednet_cli.spec.fields import MAX_IMAGE_SIZE, MAX_LENGTH, AxisName, PlainName
from sortednet_cli.spec.vocabulary import STORED
from sortednet_cli.storage.checks import FileCheck, check_seal
from sortednet_cli.storage.files import parse_json, read_bytes, read_json
from sortednet_cli.wrong_values import wrong_values

FORMAT = 2
"""Format 2 adds checksums of the folder's files and of the manifest itself. A version that knows
only format 1 must refuse such a folder: what it writes into it would have no checksums. Folders of
format 1 are still read, without comparing checksums."""

Files = dict[str, FileCheck]
"""Checksums keyed by the file's path relative to the manifest's folder."""

AxisValue = Annotated[int | float, Field(gt=0, allow_inf_nan=False)]


class _Stored(BaseModel):
    """Base model: values have exactly the stated types; unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=True)


class StoredRoot(_Stored):
    """Description of the root network."""

    family: str
    config: dict[str, Any]
    depth_order: str
    declaration: dict[str, Any]
    own_norms: dict[AxisName, Annotated[tuple[AxisValue, ...], Field(min_length=1)]] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        if not is_family(self.family):
            raise RequestError(f"{unknown_family(self.family)}; install the package that adds it")
        return self


class StoredFormat(_Stored):
    """Format of an image model's inputs and classes."""

    channels: PositiveInt
    image_size: Annotated[int, Field(gt=0, le=MAX_IMAGE_SIZE)]
    num_classes: PositiveInt
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.classes) != self.num_classes:
            raise ValueError(f"{len(self.classes)} names for {self.num_classes} classes")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std need one number for each of {self.channels} channels")
        return self


class StoredTextFormat(_Stored):
    """Format of a text model's inputs and classes."""

    task: Task
    vocab_size: PositiveInt
    max_length: Annotated[int, Field(gt=0, le=MAX_LENGTH)]
    classes: tuple[str, ...]
    pad_id: NonNegativeInt
    bos_id: NonNegativeInt | None
    eos_id: NonNegativeInt | None
    source: str


def _format_kind(value: Any) -> str:
    is_text = isinstance(value, StoredTextFormat) or (
        isinstance(value, dict) and "vocab_size" in value
    )
    return "text" if is_text else "image"


AnyFormat = Annotated[
    Annotated[StoredFormat, Tag("image")] | Annotated[StoredTextFormat, Tag("text")],
    Discriminator(_format_kind),
]


class StoredRow(_Stored):
    """One sub-model's costs and scores; no scores if it was cut from a stock checkpoint."""

    axes: dict[AxisName, AxisValue]
    params: NonNegativeInt
    macs: NonNegativeInt
    metrics: dict[str, Annotated[dict[str, float], Field(min_length=1)]]

    @model_validator(mode="after")
    def _scored(self) -> Self:
        if not {"validation", "test"} <= self.metrics.keys() and (self.metrics or self.must_score):
            raise ValueError("metrics need the parts validation and test")
        return self

    must_score: ClassVar = False


class ScoredRow(StoredRow):
    """A row of a run's table; it must have scores."""

    must_score: ClassVar = True


class RunManifest(_Stored):
    """`run.json`."""

    state: Literal["training", "finished"]
    created: float
    root: StoredRoot
    data: AnyFormat
    base_model: str | None = None
    """Name on the hub of the model that its weights began from."""
    finished: float | None = None
    train_seconds: float | None = None
    files: Files | None = None


class RunTable(_Stored):
    """`frontier.json`."""

    submodels: tuple[ScoredRow, ...]


class ArtifactManifest(_Stored):
    """`sortednet.json`."""

    run: PlainName
    root: StoredRoot
    data: AnyFormat
    data_spec: AnyDataSpec
    submodel: StoredRow
    space: dict[AxisName, Annotated[tuple[AxisValue, ...], Field(min_length=1)]]
    submodels: tuple[StoredRow, ...]
    loader: str
    plan_digest: str
    verified: dict[str, Any]
    base_model: str | None = None
    files: Files | None = None


class Counters(_Stored):
    """`counters.json` of a checkpoint; `batches` counts the batches of all processes, `nonfinite`
    the updates whose loss was not finite."""

    update: NonNegativeInt
    batches: NonNegativeInt
    seconds: float
    space: dict[str, list[int | float]]
    nonfinite: NonNegativeInt = 0
    files: Files | None = None


_PACKAGE = "sortednet-cli"

Model = TypeVar("Model", bound=BaseModel)


def read_checked(path: Path, model: type[Model]) -> Model:
    """Read a JSON file as `model`; RequestError names the file and every wrong field."""
    return check(read_json(path), path, model)


def check(value: Mapping[str, Any], path: Path, model: type[Model]) -> Model:
    """Validate content read from `path`; RequestError names the file and every wrong field."""
    try:
        return model.model_validate_json(json.dumps(value), context=STORED)
    except ValidationError as error:
        wrong = [
            f"{'.'.join(map(str, one.path))}: {one.message}" for one in wrong_values(error.errors())
        ]
        raise RequestError(f"{path} is damaged: {'; '.join(wrong)}") from error
    except RequestError as error:  # it names what only another package has
        raise RequestError(f"{path}: {error}") from error


def read_manifest(path: Path, model: type[Model], unnumbered: int | None = None) -> Model:
    """Read a manifest; check its format, then its digest, then its fields.

    The manifest of an unfinished run has no digest: its owner may edit it.

    Args:
        unnumbered: the format of a manifest without a format number.

    Raises:
        RequestError: it is damaged, or its format is unknown to this version.
    """
    content = read_bytes(path)
    table = parse_json(content, path)
    number = _known_format(table.get("format", unnumbered), table, path)
    if table.get("state") == "training":
        return check(table, path, model)
    check_seal(content, table, path, required=number > 1)
    if number > 1 and not isinstance(table.get("files"), dict):
        raise RequestError(f"{path} is damaged: files: it lists none")
    return check(table, path, model)


def _known_format(number: Any, manifest: Mapping[str, Any], path: Path) -> int:
    if type(number) is not int or number < 1:
        raise RequestError(f"{path} is damaged: it has no format number")
    if number > FORMAT:
        versions = manifest.get("versions")
        theirs = versions.get(_PACKAGE) if isinstance(versions, dict) else None
        raise RequestError(
            f"{path.parent} has format {number} ({path.name}, written by {_PACKAGE}"
            f" {theirs or 'of another version'}), but this is {_PACKAGE} {version(_PACKAGE)},"
            f" which reads formats 1 to {FORMAT}: update {_PACKAGE} to read it"
        )
    return number


def check_rows(rows: tuple[StoredRow, ...], space: SearchSpace, path: Path) -> None:
    """Check that there is one row for each sub-model; `path` is the file of the rows."""
    present = {SubModel.of(row.axes) for row in rows}
    missing = [submodel for submodel in space.submodels if submodel not in present]
    if missing or len(rows) != len(space):
        which = f": {missing[0]} is missing" if missing else ""
        raise RequestError(
            f"{path} is damaged: it holds {len(rows)} rows for {len(space)} sub-models{which}"
        )
