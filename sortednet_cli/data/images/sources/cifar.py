"""The sources `cifar10` and `cifar100`, as torchvision keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sortednet_cli.data.images.sources.base import PublishedImages

if TYPE_CHECKING:
    from sortednet_cli.data.images.cache import Decoded


class Cifar10(PublishedImages):
    """Photographs of 32 x 32 pixels in 10 classes."""

    channels, image_size, num_classes = 3, 32, 10
    torchvision_name: ClassVar[str] = "CIFAR10"
    folder: ClassVar[str] = "cifar-10-batches-py"

    def find_copy(self, folder: Path) -> Path | None:
        place = folder if folder.name == self.folder else folder / self.folder
        return place if place.is_dir() else None

    def read_copy(self, place: Path) -> Decoded:
        from sortednet_cli.data.images.arrays import read_cifar

        return read_cifar(place, self.name, self.torchvision_name)

    def is_downloaded(self, folder: Path) -> bool:
        return (folder / self.folder / "batches.meta").is_file()

    def data_name(self, path: str | None, found: Path | None) -> str:
        """A copy has been compared with the published checksums: it is what its source says."""
        copied = found is not None and found.is_dir() and self.find_copy(found) is not None
        return self.name if copied else super().data_name(path, found)


class Cifar100(Cifar10):
    """Photographs of 32 x 32 pixels in 100 classes."""

    num_classes = 100
    torchvision_name: ClassVar[str] = "CIFAR100"
    folder: ClassVar[str] = "cifar-100-python"
