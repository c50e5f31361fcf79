"""Field types that several specs share."""

from __future__ import annotations

from pathlib import PureWindowsPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

MAX_IMAGE_SIZE = 8192
"""Most pixels of a side of the images that a model takes."""

MAX_LENGTH = 1 << 20
"""Most tokens of a sequence that a model takes."""


def _plain_name(name: str) -> str:
    if not name or name.startswith(".") or len(name.encode(errors="replace")) > 120:
        raise ValueError("a name must have 1 to 120 bytes and must not begin with a dot")
    if not name.isprintable() or PureWindowsPath(name).name != name:
        raise ValueError(
            f"{name!r} becomes the name of a folder: it must not hold a slash, a drive or"
            " invisible characters"
        )
    return name


PlainName = Annotated[str, AfterValidator(_plain_name)]
"""A name that can be the name of a folder."""

AxisName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,31}$")]
"""The name of an axis, which is a part of names of sub-models, folders and tensors."""

AxisValue = int | float
PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, lt=1)]


class SpecModel(BaseModel):
    """Base of all specs: immutable, without unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )
