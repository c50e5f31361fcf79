"""Data sets of image files, in a folder or a tar of one."""

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
from sortednet_cli.data.images.archive import MAX_MEMBER, read_images
from sortednet_cli.data.images.cache import Decoded, cached
from sortednet_cli.data.images.decode import ImageDecoder, Pixels, in_threads, square_size
from sortednet_cli.data.images.layout import Layout, Sample, lay_out
from sortednet_cli.data.images.remarks import Remarks, log_lines, summarize
from sortednet_cli.data.images.tree import Listing, list_folder
from sortednet_cli.errors import RequestError
from sortednet_cli.logs import logger

MEMORY_LIMIT = 2 * 2**30
NamedBytes = tuple[str, bytes]


@dataclass(frozen=True)
class FileOptions:
    """Options for decoding files; `size` None means the size that all images share."""

    channels: int
    size: int | None
    resize: bool
    limit: int | None

    def decoder(self, first: NamedBytes) -> ImageDecoder:
        """Return a decoder; the first image gives the size if none is set."""
        name, data = first
        size = self.size or square_size(data, name)
        return ImageDecoder(self.channels, size, self.resize)

    def check_memory(self, count: int, size: int, where: str, instead: str) -> None:
        """Raise RequestError if `count` decoded images exceed the memory limit."""
        num_bytes = count * self.channels * size * size
        if self.limit is not None and num_bytes > self.limit:
            raise RequestError(
                f"{where} decodes to more than {self.limit / 2**30:.3g} GiB: {instead},"
                ' or set data.storage = "memory" to load it anyway'
            )

    @property
    def key(self) -> str:
        """The options that affect the decoded pixels."""
        return f"{self.channels} {self.size} {self.resize}"


@dataclass(frozen=True)
class FolderTree:
    """A folder of image files that has been listed but not read."""

    root: Path
    layout: Layout

    @classmethod
    def open(cls, root: Path) -> FolderTree:
        """List a folder; RequestError if it is not an image data set."""
        layout = lay_out(list_folder(root), str(root))
        log_lines(root, layout.notes)
        return cls(root, layout)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The samples of all parts."""
        return tuple(chain.from_iterable(self.layout.parts.values()))

    def read(self, name: str) -> bytes:
        """Read one file of the tree."""
        return read_file(self.root, name)

    def first(self) -> NamedBytes:
        """Read the first training image."""
        name = self.layout.parts["train"][0].name
        return name, self.read(name)

    def decode(self, options: FileOptions) -> Decoded:
        """Decode all images, or read them from the cache."""
        decoded = cached(f"{self._digest()} {options.key}", lambda: self._decode(options))
        log_lines(self.root, decoded.notes)
        return decoded

    def _decode(self, options: FileOptions) -> Decoded:
        decoder = options.decoder(self.first())
        logger.info("decoding %d images of %s", len(self.samples), self.root)

        def work(names: list[str]) -> tuple[Pixels, Remarks]:
            new: Remarks = []
            return np.stack([decoder(self.read(name), name, new) for name in names]), new

        parts = {}
        remarks: Remarks = []
        for part, samples in self.layout.parts.items():
            shape = (len(samples), decoder.channels, decoder.size, decoder.size)
            pixels = np.empty(shape, np.uint8)
            start = 0
            for chunk, new in in_threads(work, (sample.name for sample in samples)):
                pixels[start : start + len(chunk)] = chunk
                start += len(chunk)
                remarks += new
            parts[part] = (torch.from_numpy(pixels), _labels(samples))
        return Decoded(self.layout.classes, parts, summarize(remarks))

    def _digest(self) -> str:
        """Hash the bytes of all images, with their names, parts and classes.

        Reading takes a small fraction of the time of decoding. Sizes and modification times would
        be cheaper, but files from reproducible archives can have equal ones and other pixels.
        """

        def work(names: list[str]) -> list[bytes]:
            return [hashlib.sha256(self.read(name)).digest() for name in names]

        digest = hashlib.sha256(repr(self.layout.classes).encode())
        for part, samples in self.layout.parts.items():
            contents = chain.from_iterable(in_threads(work, (sample.name for sample in samples)))
            for sample, content in zip(samples, contents, strict=True):
                digest.update(repr((part, sample.label, sample.name, content)).encode())
        return f"folder {digest.hexdigest()}"


def read_file(root: Path, name: str) -> bytes:
    """Read one file of a tree; RequestError names it if it cannot be read."""
    try:
        return read_bounded(root / name, MAX_MEMBER)
    except OSError as error:
        raise RequestError(f"{name} cannot be read: {error.strerror}") from error


def decode_tar(path: Path, options: FileOptions) -> Decoded:
    """Decode all images of a tar, or read them from the cache."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    decoded = cached(f"tar {digest} {options.key}", lambda: _decode_tar(path, options))
    log_lines(path, decoded.notes)
    return decoded


def _decode_tar(path: Path, options: FileOptions) -> Decoded:
    logger.info("decoding the images of %s", path)
    listing = Listing()
    members = read_images(path, listing)
    first = next(members, None)
    if first is None:
        lay_out(listing, str(path))
    assert first is not None
    decoder = options.decoder(first)

    def bounded() -> Iterator[NamedBytes]:
        for name, data in chain([first], members):
            count = len(listing.images)
            options.check_memory(count, decoder.size, str(path), "unpack it into a folder")
            yield name, data

    def work(files: list[NamedBytes]) -> tuple[list[Pixels], Remarks]:
        new: Remarks = []
        return [decoder(data, name, new) for name, data in files], new

    pixels: list[Pixels] = []
    remarks: Remarks = []
    for chunk, new in in_threads(work, bounded()):
        pixels += chunk
        remarks += new
    images = dict(zip(listing.images, pixels, strict=True))
    layout = lay_out(listing, str(path))
    used = {sample.name for samples in layout.parts.values() for sample in samples}
    return Decoded(
        layout.classes,
        {
            part: (
                torch.from_numpy(np.stack([images[sample.name] for sample in samples])),
                _labels(samples),
            )
            for part, samples in layout.parts.items()
        },
        layout.notes + summarize([remark for remark in remarks if remark[1] in used]),
    )


def _labels(samples: tuple[Sample, ...]) -> Tensor:
    return torch.tensor([sample.label for sample in samples], dtype=torch.int64)
