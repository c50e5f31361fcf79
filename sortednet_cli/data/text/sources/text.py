"""The source `text`: texts of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from sortednet_cli.data.text.sources.base import TextSource
from sortednet_cli.errors import RequestError
from sortednet_cli.spec import TextDataSpec
from sortednet_cli.spec.data_sources import PATH_KEY

if TYPE_CHECKING:
    from sortednet_cli.data.text.locate import Tables


class TextFiles(TextSource):
    """A file, or a folder of them."""

    path: ClassVar[Literal["refused", "optional", "required"]] = "required"

    def read(self, spec: TextDataSpec, found: Path | None) -> Tables:
        from sortednet_cli.data.text.files import read_file
        from sortednet_cli.data.text.folder import EXPECTED, read_folder

        assert found is not None
        if found.is_dir():
            return read_folder(found, self.data_name(spec.path, found))
        if found.is_file():
            return {"train": read_file(found)}
        raise RequestError(f"{PATH_KEY}: {found} is no file or folder: {EXPECTED}")
