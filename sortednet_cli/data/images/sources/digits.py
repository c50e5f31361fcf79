"""The source `digits`: handwritten digits that scikit-learn ships."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sortednet_cli.data.images.sources.base import ImageSource
from sortednet_cli.spec import ImageDataSpec

if TYPE_CHECKING:
    from sortednet_cli.data.images.locate import Located


class Digits(ImageSource):
    """The 1,797 digits of 8 x 8 pixels."""

    channels, image_size, num_classes = 1, 8, 10
    refusal: ClassVar[str] = (
        "the digits are built in and take no path; for images of your own set data.source ="
        ' "image-folder"'
    )

    def read(self, spec: ImageDataSpec, found: Path | None) -> Located:
        from sortednet_cli.data.images.arrays import read_digits

        return read_digits()
