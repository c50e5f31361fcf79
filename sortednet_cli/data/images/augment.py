"""Random crops and flips of a batch in one operation, on the batch's device.

All random numbers are drawn on the CPU from the given generator, so a batch is the same on every
device. Shapes: B samples, C channels, H = W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from sortednet_cli.machine.transfer import send

SCALE = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
ATTEMPTS = 10


@dataclass(frozen=True)
class Augmentation:
    """The augmentation of training images; `none` changes nothing, so it does not flip either."""

    kind: Literal["none", "crop", "resized-crop"]
    padding: int
    flip: bool

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Augment uint8 [B, C, H, W]; return uint8, or float32 in 0..255 if resampled."""
        if self.kind == "none":
            return images
        if self.kind == "resized-crop":
            return random_resized_crop(images, self.flip, generator)
        if self.padding:
            images = random_crop(images, self.padding, generator)
        return random_flip(images, generator) if self.flip else images


def normalise(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return pixels 0..255 as float32 `images * scale + shift`; scale and shift are [C, 1, 1]."""
    return images.to(torch.float32).mul_(scale).add_(shift)


def random_crop(images: Tensor, padding: int, generator: Generator) -> Tensor:
    """Pad [B, C, H, W] with black on all sides, and crop H x W at a random offset per sample."""
    count, size = images.shape[0], images.shape[-1]
    offsets = torch.randint(2 * padding + 1, (2, count), generator=generator)
    down, right = send(offsets, images.device)
    padded = F.pad(images, (padding,) * 4)
    # A view of all crops of all samples: indexing it copies only the chosen crops.
    windows = padded.unfold(2, size, 1).unfold(3, size, 1)
    samples = torch.arange(count, device=images.device)
    return windows[samples, :, down, right]


def random_flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror each sample of [B, C, H, W] left to right with probability one half."""
    flipped = torch.rand(len(images), generator=generator) < 0.5
    mask = send(flipped, images.device)
    return torch.where(mask[:, None, None, None], images.flip(3), images)


def random_resized_crop(images: Tensor, flip: bool, generator: Generator) -> Tensor:
    """Crop a box of random area and aspect ratio from each sample and resize it to H x W.

    Areas are uniform in 8..100% of the image and aspect ratios log-uniform in 3:4..4:3, as in the
    Inception training of Szegedy et al. (2015). Boxes are never larger than the result, so
    bilinear sampling needs no antialiasing. Returns float32 [B, C, H, W] in 0..255.
    """
    size = images.shape[-1]
    boxes = draw_boxes(len(images), size, size, generator)
    top, left, height, width = (boxes[:, i].float() / size for i in range(4))
    sign = torch.ones(len(images))
    if flip:
        sign -= 2 * (torch.rand(len(images), generator=generator) < 0.5).float()
    transform = torch.zeros(len(images), 2, 3)
    transform[:, 0, 0] = width * sign
    transform[:, 0, 2] = 2 * left + width - 1
    transform[:, 1, 1] = height
    transform[:, 1, 2] = 2 * top + height - 1
    transform = send(transform, images.device)
    grid = F.affine_grid(transform, [len(images), 1, size, size], align_corners=False)
    return F.grid_sample(
        images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def draw_boxes(count: int, height: int, width: int, generator: Generator) -> Tensor:
    """Draw int64 boxes [count, 4] (top, left, height, width) within an image, in pixels.

    Each box is the first of ten draws that fits, or else the largest legal box at the centre.
    """
    area = torch.empty(count, ATTEMPTS).uniform_(*SCALE, generator=generator) * height * width
    log_ratio = torch.empty(count, ATTEMPTS)
    log_ratio.uniform_(math.log(RATIO[0]), math.log(RATIO[1]), generator=generator)
    widths = (area * log_ratio.exp()).sqrt().round().long()
    heights = (area / log_ratio.exp()).sqrt().round().long()
    fits = (widths <= width) & (heights <= height) & (widths > 0) & (heights > 0)
    first = fits.long().argmax(1, keepdim=True)
    any_fits = fits.any(1)
    fallback = _middle_box(height, width)
    w = torch.where(any_fits, widths.gather(1, first)[:, 0], fallback[1])
    h = torch.where(any_fits, heights.gather(1, first)[:, 0], fallback[0])
    offset = torch.rand(2, count, generator=generator)
    top = torch.where(any_fits, (offset[0] * (height - h + 1)).long(), (height - h) // 2)
    left = torch.where(any_fits, (offset[1] * (width - w + 1)).long(), (width - w) // 2)
    return torch.stack((top, left, h, w), 1)


def _middle_box(height: int, width: int) -> tuple[int, int]:
    ratio = width / height
    if ratio < RATIO[0]:
        return min(height, round(width / RATIO[0])), width
    if ratio > RATIO[1]:
        return height, min(width, round(height * RATIO[1]))
    return height, width
