"""The sources `mnist` and `fashion-mnist`: four idx files each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sortednet_cli.data.images.sources.base import PublishedImages

if TYPE_CHECKING:
    from sortednet_cli.data.images.cache import Decoded


class Mnist(PublishedImages):
    """Handwritten digits of 28 x 28 pixels."""

    channels, image_size, num_classes = 1, 28, 10
    torchvision_name: ClassVar[str] = "MNIST"
    copy: ClassVar[str] = "its four idx files, torchvision's copy of it"
    classes: ClassVar[tuple[str, ...]] = tuple(map(str, range(10)))

    def find_copy(self, folder: Path) -> Path | None:
        from sortednet_cli.data.images.arrays import find_idx

        return find_idx(folder, self.torchvision_name)

    def read_copy(self, place: Path) -> Decoded:
        from sortednet_cli.data.images.arrays import read_idx

        return read_idx(place, self.classes)


class FashionMnist(Mnist):
    """Pictures of clothes of 28 x 28 pixels."""

    torchvision_name: ClassVar[str] = "FashionMNIST"
    classes: ClassVar[tuple[str, ...]] = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
