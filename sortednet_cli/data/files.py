"""Data sets that come as image files, in a folder or in a tar of one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sortednet_cli.bounded import read_bounded
from sortednet_cli.data.archive import MAX_MEMBER, read_images
from sortednet_cli.data.cache import Decoded, cached
from sortednet_cli.data.decode import Decoder, Pixels, image_size, in_threads, square_size
from sortednet_cli.data.tree import Layout, Sample, lay_out, list_folder
from sortednet_cli.errors import RequestError
from sortednet_cli.logs import logger

MEMORY_LIMIT = 2 * 2**30
NamedBytes = tuple[str, bytes]


@dataclass(frozen=True)
class FileOptions:
    """How files are decoded: `size` None takes the size that all images have."""

    channels: int
    size: int | None
    resize: bool
    limit: int | None

    def decoder(self, first: NamedBytes) -> Decoder:
        """Fix the size, by the first image if it is not given."""
        name, data = first
        size = self.size or square_size(*image_size(data, name), name)
        return Decoder(self.channels, size, self.resize)

    def check_memory(self, count: int, size: int, where: str, instead: str) -> None:
        """Raise RequestError if `count` decoded images are more than may be held."""
        num_bytes = count * self.channels * size * size
        if self.limit is not None and num_bytes > self.limit:
            raise RequestError(
                f"{where} decodes to more than {self.limit / 2**30:.3g} GiB: {instead},"
                ' or set data.storage = "memory" to hold it all the same'
            )

    @property
    def key(self) -> str:
        """What of the options the decoded pixels depend on."""
        return f"{self.channels} {self.size} {self.resize}"


@dataclass(frozen=True)
class FolderTree:
    """A folder of image files that has been listed, and not yet read."""

    root: Path
    layout: Layout

    @classmethod
    def open(cls, root: Path) -> FolderTree:
        """List a folder; RequestError if it is no image data set."""
        images, folders = list_folder(root)
        return cls(root, lay_out(images, folders, str(root)))

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples, part after part."""
        return tuple(chain.from_iterable(self.layout.parts.values()))

    def read(self, name: str) -> bytes:
        """Read one file of the tree."""
        return read_file(self.root, name)

    def first(self) -> NamedBytes:
        """Read the first training image."""
        name = self.layout.parts["train"][0].name
        return name, self.read(name)

    def decode(self, options: FileOptions) -> Decoded:
        """Decode all images, or take them from the cache."""
        return cached(f"{self._digest()} {options.key}", lambda: self._decode(options))

    def _decode(self, options: FileOptions) -> Decoded:
        decoder = options.decoder(self.first())
        logger.info("decoding %d images of %s", len(self.samples), self.root)

        def work(names: list[str]) -> Pixels:
            return np.stack([decoder(self.read(name), name) for name in names])

        parts = {}
        for part, samples in self.layout.parts.items():
            shape = (len(samples), decoder.channels, decoder.size, decoder.size)
            pixels = np.empty(shape, np.uint8)
            start = 0
            for chunk in in_threads(work, (sample.name for sample in samples)):
                pixels[start : start + len(chunk)] = chunk
                start += len(chunk)
            parts[part] = (torch.from_numpy(pixels), _labels(samples))
        return Decoded(self.layout.classes, parts)

    def _digest(self) -> str:
        """Digest names, sizes and times of change of all images."""
        digest = hashlib.sha256()
        for name in sorted(sample.name for sample in self.samples):
            try:
                stat = (self.root / name).stat()
            except OSError as error:
                raise RequestError(f"{name} cannot be read: {error.strerror}") from error
            digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return f"folder {digest.hexdigest()}"


def read_file(root: Path, name: str) -> bytes:
    """Read one file of a tree, or raise RequestError naming it."""
    try:
        return read_bounded(root / name, MAX_MEMBER)
    except OSError as error:
        raise RequestError(f"{name} cannot be read: {error.strerror}") from error


def decode_tar(path: Path, options: FileOptions) -> Decoded:
    """Decode all images of a tar, or take them from the cache."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return cached(f"tar {digest} {options.key}", lambda: _decode_tar(path, options))


def _decode_tar(path: Path, options: FileOptions) -> Decoded:
    logger.info("decoding the images of %s", path)
    folders: set[str] = set()
    members = read_images(path, folders)
    first = next(members, None)
    if first is None:
        lay_out([], folders, str(path))
    assert first is not None
    decoder = options.decoder(first)
    names: list[str] = []

    def listed() -> Iterator[NamedBytes]:
        for name, data in chain([first], members):
            names.append(name)
            options.check_memory(len(names), decoder.size, str(path), "unpack it into a folder")
            yield name, data

    def work(files: list[NamedBytes]) -> list[Pixels]:
        return [decoder(data, name) for name, data in files]

    pixels = list(chain.from_iterable(in_threads(work, listed())))
    layout = lay_out(names, folders, str(path))
    found = dict(zip(names, pixels, strict=True))
    return Decoded(
        layout.classes,
        {
            part: (
                torch.from_numpy(np.stack([found[sample.name] for sample in samples])),
                _labels(samples),
            )
            for part, samples in layout.parts.items()
        },
    )


def _labels(samples: tuple[Sample, ...]) -> Tensor:
    return torch.tensor([sample.label for sample in samples], dtype=torch.int64)
