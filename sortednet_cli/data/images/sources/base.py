"""The abstract source of images, and the published ones that torchvision downloads."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from sortednet_cli.spec import ImageDataSpec
from sortednet_cli.spec.data_sources import DataSource

if TYPE_CHECKING:
    from sortednet_cli.data.images.cache import Decoded
    from sortednet_cli.data.images.locate import Located

EXPECTED = "expected train/CLASS/ and test/CLASS/ folders of images, or CLASS/ folders alone"


class ImageSource(DataSource):
    """A source of images with a label each.

    Attributes:
        channels: of an image; 3 if the data alone tell.
        image_size: height and width in pixels, if they are known without the data.
        num_classes: likewise.
    """

    kind: ClassVar[Literal["image", "text"]] = "image"
    expected: ClassVar[str] = f"{EXPECTED}, or a tar of them"
    channels: ClassVar[int] = 3
    image_size: ClassVar[int | None] = None
    num_classes: ClassVar[int | None] = None

    @abstractmethod
    def read(self, spec: ImageDataSpec, found: Path | None) -> Located:
        """Read the images: arrays of them, or a folder whose files are read as training goes.

        Arrays may hold a train part alone, which is then split, and images of any one size.

        Args:
            found: what `find` gives for `spec.path`.

        Raises:
            RequestError: what is found holds something else; says what was expected.
            WorkError: a download fails.
        """


class PublishedImages(ImageSource):
    """Images that torchvision downloads. A path names a copy of them, or files of the user's own.

    Attributes:
        torchvision_name: the class in `torchvision.datasets`.
        copy: what a folder with a copy holds, for messages.
    """

    path: ClassVar[Literal["refused", "optional", "required"]] = "optional"
    torchvision_name: ClassVar[str]
    copy: ClassVar[str] = "torchvision's copy of it"

    @abstractmethod
    def find_copy(self, folder: Path) -> Path | None:
        """Find the place of a copy in a folder, or None."""

    @abstractmethod
    def read_copy(self, place: Path) -> Decoded:
        """Read what `find_copy` found; RequestError if it is damaged."""

    def is_downloaded(self, folder: Path) -> bool:
        """Whether the folder that downloads go to needs none of it any more."""
        return self.find_copy(folder) is not None

    def read(self, spec: ImageDataSpec, found: Path | None) -> Located:
        from sortednet_cli.data.images.download import download
        from sortednet_cli.data.images.locate import read_files
        from sortednet_cli.storage.cache import cache_folder

        if found is None:
            folder = cache_folder() / "torchvision"
            if not self.is_downloaded(folder):
                download(self.name, self.torchvision_name, folder, self.copy)
            return self.read_copy(self.find_copy(folder) or folder)
        if found.is_dir() and (place := self.find_copy(found)) is not None:
            return self.read_copy(place)
        return read_files(self, spec, found)
