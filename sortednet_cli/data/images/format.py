"""Format of an image model's inputs, and the check that other data has the same format."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from sortednet_cli.data.images.names import to_nfc
from sortednet_cli.errors import RequestError, shortened


@dataclass(frozen=True)
class ImageFormat:
    """Format of the images that a model was made for; `dataclasses.asdict` gives its JSON.

    `mean` and `std` are those of training pixels scaled to [0, 1], per channel. `source` names
    the data (`digits`, `cifar10`, the name of a file or folder), without its path.
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
        return {**asdict(self), "classes": self.classes}

    def random_inputs(self, count: int, generator: Generator | None = None) -> Tensor:
        """Standard normal noise [B, C, H, W], with the statistics of normalised images."""
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
    """Return scale and shift, float32 [C, 1, 1] each, that normalise pixels 0..255."""
    mean = torch.tensor(image_format.mean, dtype=torch.float64)
    std = torch.tensor(image_format.std, dtype=torch.float64)
    scale, shift = 1 / (255 * std), -mean / std
    return scale.float()[:, None, None], shift.float()[:, None, None]


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of uint8 [N, C, H, W], scaled to [0, 1].

    Sums are of integers, which float64 represents exactly, so the result does not depend on
    threads or on the order of images. A constant channel gets the deviation 1, to avoid a division
    by zero.
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


def check_same(data: ImageFormat, model: ImageFormat) -> None:
    """Raise RequestError unless the data's format suits a model that was made for `model`."""
    if data.channels != model.channels:
        raise RequestError(
            f"the images of {data.source} have {data.channels} channels, but the model was made"
            f" for {model.channels}"
        )
    if data.image_size != model.image_size:
        raise RequestError(
            f"the images of {data.source} are {data.image_size} pixels wide, but the model was"
            f" made for {model.image_size}: set data.image_size = {model.image_size}"
        )


def class_numbers(data: ImageFormat, model: ImageFormat) -> Tensor:
    """Return the model's number of each class of the data, by name: int64 [data.num_classes].

    The data may lack some classes of the model.

    Raises:
        RequestError: the model lacks a class of the data.
    """
    numbers = {to_nfc(name): number for number, name in enumerate(model.classes)}
    names = [to_nfc(name) for name in data.classes]
    if unknown := [name for name in names if name not in numbers]:
        only_in_model = [name for name in numbers if name not in names]
        raise RequestError(
            f"the classes of {data.source} are not those the model was made for"
            f" ({model.source}): only in the data: {shortened(unknown)};"
            f" only in the model: {shortened(only_in_model)}"
        )
    return torch.tensor([numbers[name] for name in names], dtype=torch.int64)


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
