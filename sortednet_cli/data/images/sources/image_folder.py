"""The source `image-folder`: image files of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from sortednet_cli.data.images.sources.base import ImageSource
from sortednet_cli.spec import ImageDataSpec

if TYPE_CHECKING:
    from sortednet_cli.data.images.locate import Located


class ImageFolder(ImageSource):
    """A folder of each class, or a tar of such folders."""

    path: ClassVar[Literal["refused", "optional", "required"]] = "required"

    def read(self, spec: ImageDataSpec, found: Path | None) -> Located:
        from sortednet_cli.data.images.locate import read_files

        assert found is not None
        return read_files(self, spec, found)
