"""Which samples normalisation statistics are measured on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from sortednet_cli.data.images.dataset import Images, open_images
from sortednet_cli.engine.evaluation.batch_sizes import BatchSizes
from sortednet_cli.engine.evaluation.score import calibration_batches, ensure_statistics
from sortednet_cli.spec import ImageDataSpec
from tests.pico import PICOS

CPU = torch.device("cpu")


def white_images(root: Path, count: int, augment: str = "crop") -> Images:
    """`count` white training images of 8 x 8 pixels, which a crop gives a black border."""
    for part, number in {"train": count, "validation": 2, "test": 2}.items():
        for name in ("a", "b"):
            (root / part / name).mkdir(parents=True, exist_ok=True)
        for index in range(number):
            path = root / part / "ab"[index % 2] / f"{index}.png"
            Image.new("RGB", (8, 8), (255, 255, 255)).save(path)
    return open_images(
        ImageDataSpec(
            source="image-folder", path=str(root), augment=augment, crop_padding=4, storage="memory"
        )
    )


def calibration(images: Images, size: int, num_samples: int) -> list[Tensor]:
    return list(calibration_batches(images, BatchSizes(size, size), num_samples, CPU))


def test_they_are_augmented_as_in_training(tmp_path: Path) -> None:
    """The weights fit images with a border: without it every channel has another mean."""
    images = white_images(tmp_path, 40)
    batches = calibration(images, 8, 32)
    assert [len(batch.unique()) for batch in batches] == [2] * 4
    again = calibration(images, 8, 32)
    assert all(torch.equal(a, b) for a, b in zip(batches, again, strict=True))


@pytest.mark.parametrize(
    ("samples", "asked", "sizes"),
    [
        (17, 100, [8, 8, 8]),  # the third is of the next epoch
        (17, 16, [8, 8]),
        (8, 100, [8]),
        (5, 100, [5]),
        (17, 3, [3]),
    ],
)
def test_all_batches_are_full(tmp_path: Path, samples: int, asked: int, sizes: list[int]) -> None:
    """A batch of the one sample that is left over would have no variance."""
    images = white_images(tmp_path, samples)
    assert [len(batch) for batch in calibration(images, 8, asked)] == sizes


def test_a_norm_gets_the_mean_of_what_training_shows_it(tmp_path: Path) -> None:
    network = PICOS["preact_basic"].network()
    submodel, sizes = network.space.smallest, BatchSizes(8, 8)
    means = []
    for augment in ("crop", "none"):
        images = white_images(tmp_path / augment, 32, augment)
        network.statistics.clear()
        ensure_statistics(network, [submodel], images, sizes, 32)
        module = network.at(submodel)
        stem, norm = module.get_submodule("stem"), module.get_submodule("stages.0.0.norm1")
        with torch.no_grad():
            shown = torch.cat([stem(batch) for batch in calibration(images, 8, 32)])
        means.append(norm.get_buffer("running_mean").clone())
        torch.testing.assert_close(means[-1], shown.mean((0, 2, 3)))
    assert not torch.allclose(*means, atol=0.05)
