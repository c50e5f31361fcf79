"""The tokens that make up nearly all texts of a training: one small file beside its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from sortednet_cli.storage.artifact import FREQUENT_TOKENS
from sortednet_cli.storage.files import read_json, write_json
from sortednet_cli.storage.manifest import check


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    share: Annotated[float, Field(gt=0, le=1)]
    tokens: list[Annotated[int, Field(ge=0)]]


def write_frequent(folder: Path, tokens: list[int], share: float) -> None:
    """Write the most frequent tokens, which make up a share of all that were counted."""
    write_json(folder / FREQUENT_TOKENS, {"share": share, "tokens": tokens})


def read_frequent(folder: Path) -> list[int]:
    """Read the most frequent tokens; none if the file does not exist.

    Raises:
        RequestError: the file is damaged.
    """
    file = folder / FREQUENT_TOKENS
    return check(read_json(file), file, _File).tokens if file.is_file() else []
