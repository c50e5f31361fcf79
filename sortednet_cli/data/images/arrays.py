"""Data sets stored as arrays: scikit-learn's digits, idx files, torchvision's CIFAR."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sortednet_cli.data.images.cache import Decoded
from sortednet_cli.data.split import PartName
from sortednet_cli.errors import RequestError

MAX_IDX_BYTES = 2**31
_RESIZE_CHUNK = 1024

Parts = Mapping[PartName, tuple[Tensor, Tensor]]
"""Images and labels by part, as in `Decoded`."""
_IDX_PREFIXES = {"train": "train", "test": "t10k"}


def read_digits() -> Decoded:
    """Read the 1,797 handwritten digits of 8 x 8 pixels that scikit-learn ships."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    return Decoded(tuple(map(str, range(10))), {"train": (torch.from_numpy(pixels), labels)})


def find_idx(folder: Path, torchvision_name: str) -> Path | None:
    """Find the folder with idx files: `folder` itself, or torchvision's folder inside it."""
    inner = Path(torchvision_name) / "raw"
    for candidate in (folder, folder / inner, folder / "raw"):
        if any(_idx_path(candidate, name) for name in _idx_names("train")):
            return candidate
    return None


def read_idx(folder: Path, classes: tuple[str, ...]) -> Decoded:
    """Read the four idx files, plain or gzipped, of a data set with these classes.

    Raises:
        RequestError: a file is missing, truncated or not an idx file.
    """
    train = _read_idx_part(folder, "train", len(classes))
    return Decoded(classes, {"train": train, "test": _read_idx_part(folder, "test", len(classes))})


def _read_idx_part(folder: Path, part: str, num_classes: int) -> tuple[Tensor, Tensor]:
    paths = [_idx_path(folder, name) for name in _idx_names(part)]
    for path, name in zip(paths, _idx_names(part), strict=True):
        if path is None:
            raise RequestError(f"{folder} has no {name} or {name}.gz")
    images, labels = (_read_idx_file(path) for path in paths if path)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or not len(images):
        raise RequestError(
            f"{paths[0]} and {paths[1]} do not belong together: shapes"
            f" {images.shape} and {labels.shape}"
        )
    if labels.max() >= num_classes:
        raise RequestError(
            f"{paths[1]} has the label {labels.max()}, but the labels of {num_classes} classes are"
            f" 0 to {num_classes - 1}"
        )
    if images.shape[1] != images.shape[2]:
        raise RequestError(f"the images of {paths[0]} are not square: {images.shape[1:]}")
    return torch.from_numpy(images[:, None]), torch.from_numpy(labels.astype(np.int64))


def _idx_names(part: str) -> tuple[str, str]:
    prefix = _IDX_PREFIXES[part]
    return f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"


def _idx_path(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)


def _read_idx_file(path: Path) -> NDArray[np.uint8]:
    """Read one idx file of unsigned bytes: 0, 0, 8, rank, big-endian sizes, then the data."""
    open_compressed = gzip.open if path.suffix == ".gz" else open
    try:
        with open_compressed(path, "rb") as opened:
            file = cast(IO[bytes], opened)
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != b"\x00\x00\x08" or not 1 <= magic[3] <= 3:
                raise RequestError(f"{path} is not an idx file of unsigned bytes")
            sizes = np.frombuffer(file.read(4 * magic[3]), ">u4").astype(np.int64)
            expected = int(np.prod(sizes.astype(object))) if len(sizes) == magic[3] else -1
            if not 0 <= expected <= MAX_IDX_BYTES:
                raise RequestError(f"{path} has a damaged header, or more than 2 GiB")
            data = file.read(expected)
            excess = file.read(1)
    except (OSError, EOFError, zlib.error) as error:
        raise RequestError(f"{path} cannot be read: {error}") from error
    if len(data) < expected or excess:
        actual = f"more than {expected:,}" if excess else f"{len(data):,} of {expected:,}"
        raise RequestError(f"{path} is truncated or damaged: it has {actual} bytes")
    return np.frombuffer(bytearray(data), np.uint8).reshape(sizes)


def read_cifar(folder: Path, source: str, torchvision_name: str) -> Decoded:
    """Read CIFAR-10 or CIFAR-100 as torchvision stores it; torchvision compares checksums."""
    from torchvision import datasets

    dataset = getattr(datasets, torchvision_name)
    try:
        train, test = (dataset(str(folder.parent), train=is_train) for is_train in (True, False))
    except RuntimeError as error:
        raise RequestError(
            f"{folder} does not hold the published files of {source}"
            " (a checksum differs or a file is missing)"
        ) from error
    return Decoded(tuple(train.classes), {"train": _hwc(train), "test": _hwc(test)})


def _hwc(dataset: object) -> tuple[Tensor, Tensor]:
    pixels = torch.from_numpy(dataset.data)  # type: ignore[attr-defined]
    targets = torch.tensor(dataset.targets, dtype=torch.int64)  # type: ignore[attr-defined]
    return pixels.permute(0, 3, 1, 2).contiguous(), targets


def resize_parts(parts: Parts, size: int) -> Parts:
    """Resize all images, which must be square, to `size` x `size` pixels."""
    return {part: (_resize(images, size), labels) for part, (images, labels) in parts.items()}


def _resize(images: Tensor, size: int) -> Tensor:
    if images.shape[-1] == size:
        return images
    result = torch.empty(*images.shape[:2], size, size, dtype=torch.uint8)
    for source, target in zip(
        torch.split(images, _RESIZE_CHUNK), torch.split(result, _RESIZE_CHUNK), strict=True
    ):
        target.copy_(
            F.interpolate(source.float(), (size, size), mode="bilinear", antialias=True)
            .round_()
            .clamp_(0, 255)
        )
    return result
