"""Batched augmentation against plain loops over samples."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from sortednet_cli.data.images.augment import (
    Augmentation,
    draw_boxes,
    random_crop,
    random_flip,
    random_resized_crop,
)


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def some_images(count: int = 32, size: int = 8) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator(9))


def slow_crop(images: Tensor, padding: int, random: Generator) -> Tensor:
    offsets = torch.randint(2 * padding + 1, (2, len(images)), generator=random)
    size = images.shape[-1]
    result = torch.zeros_like(images)
    for i in range(len(images)):
        for y in range(size):
            for x in range(size):
                from_y = y + int(offsets[0, i]) - padding
                from_x = x + int(offsets[1, i]) - padding
                if 0 <= from_y < size and 0 <= from_x < size:
                    result[i, :, y, x] = images[i, :, from_y, from_x]
    return result


def slow_flip(images: Tensor, random: Generator) -> Tensor:
    flips = torch.rand(len(images), generator=random) < 0.5
    pairs = zip(images, flips, strict=True)
    return torch.stack([image.flip(-1) if flip else image for image, flip in pairs])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 4])
def test_crop_and_flip_equal_the_slow_reference(padding: int, flip: bool) -> None:
    images = some_images()
    random = generator(1)
    expected = slow_crop(images, padding, random) if padding else images
    expected = slow_flip(expected, random) if flip else expected
    found = Augmentation("crop", padding, flip)(images, generator(1))
    assert found.dtype == torch.uint8
    assert torch.equal(found, expected)


def test_crops_reach_every_offset_and_flips_are_fair() -> None:
    images = torch.zeros(4000, 1, 3, 3, dtype=torch.uint8)
    images[:, :, 1, 1] = 1
    places = random_crop(images, 1, generator()).flatten(1).argmax(1).bincount(minlength=9)
    assert places.min() > 4000 / 9 * 0.8
    images[:, :, 1, 0] = 2
    flipped = (random_flip(images, generator())[:, 0, 1, 2] == 2).float().mean()
    assert abs(flipped - 0.5) < 0.03


def test_none_changes_nothing() -> None:
    images = some_images()
    assert Augmentation("none", 4, True)(images, generator()) is images


def test_boxes_lie_within_the_image_and_keep_scale_and_ratio() -> None:
    boxes = draw_boxes(5000, 60, 90, generator())
    top, left, height, width = boxes.unbind(1)
    assert boxes.min() >= 0
    assert (top + height <= 60).all()
    assert (left + width <= 90).all()
    assert (height > 0).all()
    assert (width > 0).all()
    area = (height * width) / (60 * 90)
    assert 0.07 < area.min() < 0.1
    assert area.max() <= 1
    ratio = width / height
    assert ratio.min() > 0.7
    assert ratio.max() < 1.4


@pytest.mark.parametrize(("height", "width"), [(10, 1000), (1000, 10)])
def test_boxes_of_extreme_images_fall_back_to_the_middle(height: int, width: int) -> None:
    boxes = draw_boxes(500, height, width, generator())
    assert (boxes[:, 0] + boxes[:, 2] <= height).all()
    assert (boxes[:, 1] + boxes[:, 3] <= width).all()
    assert boxes[:, 2:].min() >= 1


@pytest.mark.parametrize("flip", [False, True])
def test_resized_crop_equals_cutting_and_interpolating(flip: bool) -> None:
    images = some_images(16, 16)
    found = random_resized_crop(images, flip, generator(3))
    random = generator(3)
    boxes = draw_boxes(16, 16, 16, random)
    flips = torch.rand(16, generator=random) < 0.5
    inside = slice(4, 12)
    for i, (top, left, height, width) in enumerate(boxes.tolist()):
        cut = images[i : i + 1, :, top : top + height, left : left + width].float()
        expected = F.interpolate(cut, (16, 16), mode="bilinear", align_corners=False)[0]
        expected = expected.flip(-1) if flip and flips[i] else expected
        # At its rim a box may look at pixels just outside it.
        assert torch.allclose(found[i, :, inside, inside], expected[:, inside, inside], atol=1e-2)
