"""Types of field that several specs share."""

from __future__ import annotations

from pathlib import PureWindowsPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

MAX_IMAGE_SIZE = 8192
"""Pixels of a side of the images that a model takes."""

MAX_LENGTH = 1 << 20
"""Tokens of a sequence that a model takes."""


def _plain_name(name: str) -> str:
    if not name or name.startswith(".") or len(name.encode(errors="replace")) > 120:
        raise ValueError("a name has 1 to 120 bytes and begins with no dot")
    if not name.isprintable() or PureWindowsPath(name).name != name:
        raise ValueError(
            f"{name!r} names folders: it holds no /, no drive and nothing that cannot be seen"
        )
    return name


PlainName = Annotated[str, AfterValidator(_plain_name)]
"""A name that becomes that of a folder."""

AxisName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,31}$")]
"""The name of an axis: names of sub-models, and so of folders and tensors, are made of it."""

AxisValue = int | float
PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, lt=1)]


class SpecModel(BaseModel):
    """Base of all specs: immutable, and an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )
