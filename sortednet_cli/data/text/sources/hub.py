"""The source `hub`: a data set of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from sortednet_cli.data.text.sources.base import TextSource
from sortednet_cli.spec import TextDataSpec

if TYPE_CHECKING:
    from sortednet_cli.data.text.locate import Tables


class Hub(TextSource):
    """`data.path` is the data set's name, or `name:config`."""

    path: ClassVar[Literal["refused", "optional", "required"]] = "required"
    path_is_file: ClassVar[bool] = False
    expected: ClassVar[str] = "a data set's name"

    def data_name(self, path: str | None, found: Path | None) -> str:
        return path or self.name

    def read(self, spec: TextDataSpec, found: Path | None) -> Tables:
        from sortednet_cli.data.text.hub import read_hub

        assert spec.path is not None
        return read_hub(spec.path)
