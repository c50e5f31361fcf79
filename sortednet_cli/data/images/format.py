"""What a model must know of its images, and the check that other data offers the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from sortednet_cli.data.images.names import composed
from sortednet_cli.errors import RequestError, shortened


@dataclass(frozen=True)
class ImageFormat:
    """The images a model was made for; `dataclasses.asdict` gives its JSON.

    `mean` and `std` are per channel, of training pixels scaled to [0, 1]. `source` names
    the data (`digits`, `cifar10`, a file's or folder's own name), never where it lies.
    """

    channels: int
    image_size: int
    num_classes: int
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str

    kind: ClassVar = "image"
    task: ClassVar = "classification"
    unit: ClassVar = "image"
    num_units: ClassVar = 1

    def facts(self) -> dict[str, Any]:
        return {"channels": self.channels, "num_classes": self.num_classes}

    def random_inputs(self, count: int, generator: Generator | None = None) -> Tensor:
        """Normal noise [B, C, H, W]: what normalised images are like."""
        size = self.image_size
        return torch.randn(count, self.channels, size, size, generator=generator)

    def output_shape(self, count: int) -> tuple[int, ...]:
        return (count, self.num_classes)

    def card_lines(self, has_tokenizer: bool) -> list[str]:
        normalise = ", ".join(f"({_numbers(v)})" for v in (self.mean, self.std))
        return [
            f"- Input: float32 [batch, {self.channels}, {self.image_size}, {self.image_size}],"
            " pixels in",
            f"  [0, 1], then normalised by mean and standard deviation {normalise}",
            f"- Output: logits of {self.num_classes} classes: {shortened(self.classes, 10)}",
        ]


def scale_and_shift(image_format: ImageFormat) -> tuple[Tensor, Tensor]:
    """Return float32 [C, 1, 1] twice: pixels 0..255 x the one + the other are normalised."""
    mean = torch.tensor(image_format.mean, dtype=torch.float64)
    std = torch.tensor(image_format.std, dtype=torch.float64)
    scale, shift = 1 / (255 * std), -mean / std
    return scale.float()[:, None, None], shift.float()[:, None, None]


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of uint8 [N, C, H, W], scaled to [0, 1].

    Sums are of integers that float64 holds exactly, so the result does not depend on threads
    or on the order of images. A channel that never changes gets the deviation 1: it must not
    be divided by zero.
    """
    total = torch.zeros(images.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for chunk in torch.split(images, 64):
        for channel in range(images.shape[1]):
            values = chunk[:, channel].reshape(-1).double()
            total[channel] += values.sum()
            squares[channel] += torch.dot(values, values)
    count = images.numel() // images.shape[1]
    mean = total / count
    variance = (squares / count - mean**2).clamp_min(0)
    std = torch.where(variance > 0, variance.sqrt() / 255, 1.0)
    return tuple((mean / 255).tolist()), tuple(std.tolist())


def check_same(found: ImageFormat, known: ImageFormat) -> None:
    """Raise RequestError unless the pixels fit a model that was made for `known`."""
    if found.channels != known.channels:
        raise RequestError(
            f"the images of {found.source} have {found.channels} channels,"
            f" the model was made for {known.channels}"
        )
    if found.image_size != known.image_size:
        raise RequestError(
            f"the images of {found.source} are {found.image_size} pixels wide, the model was"
            f" made for {known.image_size}: set data.image_size = {known.image_size}"
        )


def class_numbers(found: ImageFormat, known: ImageFormat) -> Tensor:
    """Number the classes of data as the model does, by name: int64 [classes of the data].

    Data may lack some classes of the model. Raises RequestError for one that the model lacks.
    """
    numbers = {composed(name): number for number, name in enumerate(known.classes)}
    names = [composed(name) for name in found.classes]
    if unknown := [name for name in names if name not in numbers]:
        only_known = [name for name in numbers if name not in names]
        raise RequestError(
            f"the classes of {found.source} are not those the model was made for"
            f" ({known.source}): only in the data: {shortened(unknown)};"
            f" only in the model: {shortened(only_known)}"
        )
    return torch.tensor([numbers[name] for name in names], dtype=torch.int64)


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
