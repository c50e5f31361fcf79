"""From a spec to images: what its source reads, brought to the spec's size and checked."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from sortednet_cli.data.images.arrays import resized
from sortednet_cli.data.images.cache import Decoded
from sortednet_cli.data.images.decode import Decoder
from sortednet_cli.data.images.files import MEMORY_LIMIT, FileOptions, FolderTree, decode_tar
from sortednet_cli.data.images.sources.base import EXPECTED, ImageSource
from sortednet_cli.errors import RequestError, shortened
from sortednet_cli.spec import ImageDataSpec
from sortednet_cli.spec.data_sources import data_source


@dataclass(frozen=True)
class StreamedFolder:
    """A folder of image files that is read as training goes, and how a file is decoded."""

    tree: FolderTree
    decoder: Decoder


Located = Decoded | StreamedFolder


def locate(spec: ImageDataSpec, *, with_all_classes: bool) -> tuple[str, Located]:
    """Return the name of the data and the data, decoded or to be streamed.

    Data that a model is to be made for must come `with_all_classes`. Raises RequestError, saying
    what was expected, if the path holds something else.
    """
    source = data_source(spec.source)
    assert isinstance(source, ImageSource)
    found = source.find(spec.path)
    name, located = source.data_name(spec.path, found), source.read(spec, found)
    if isinstance(located, Decoded):
        located = _sized(located, source, spec)
    if with_all_classes:
        _check_classes(located, source, name)
    return name, located


def read_files(source: ImageSource, spec: ImageDataSpec, found: Path) -> Located:
    """Read a folder of image files, or a tar of one; RequestError if it is neither."""
    options = _options(source, spec)
    if found.is_file():
        if spec.storage == "stream":
            raise RequestError(
                f'data.storage = "stream" needs a folder of image files: unpack {found.name} first'
            )
        return decode_tar(found, options)
    if not found.is_dir():
        raise RequestError(f"data.path: {found} is no file or folder: {EXPECTED}, or a tar of them")
    tree = FolderTree.open(found)
    decoder = options.decoder(tree.first())
    num_bytes = len(tree.samples) * decoder.channels * decoder.size**2
    if spec.storage == "stream" or (spec.storage == "auto" and num_bytes > MEMORY_LIMIT):
        return StreamedFolder(tree, decoder)
    return tree.decode(options)


def _sized(decoded: Decoded, source: ImageSource, spec: ImageDataSpec) -> Decoded:
    """Bring arrays to the spec's size, or check that they have the source's own."""
    if spec.storage == "stream":
        raise RequestError(
            f'data.storage = "stream" needs a folder of image files; {source.name} comes as arrays'
        )
    images = decoded.parts["train"][0]
    size = spec.image_size or source.image_size or images.shape[-1]
    count = sum(len(labels) for _, labels in decoded.parts.values())
    options = _options(source, spec)
    options.check_memory(count, size, source.name, "choose a smaller data.image_size")
    for pixels, _ in decoded.parts.values():
        if spec.image_size is None and pixels.shape[-1] != size:
            raise RequestError(
                f"images of {source.name} are {size}x{size}, these are"
                f" {pixels.shape[-1]}x{pixels.shape[-1]}; set data.image_size to resize all"
            )
    return dataclasses.replace(decoded, parts=resized(decoded.parts, size))


def _options(source: ImageSource, spec: ImageDataSpec) -> FileOptions:
    return FileOptions(
        channels=source.channels,
        size=spec.image_size or source.image_size,
        resize=spec.image_size is not None,
        limit=MEMORY_LIMIT if spec.storage == "auto" else None,
    )


def _check_classes(located: Located, source: ImageSource, name: str) -> None:
    """Hold the data to two classes, or to as many as their source is known to have."""
    classes = located.classes if isinstance(located, Decoded) else located.tree.layout.classes
    expected = source.num_classes
    if expected is not None and len(classes) != expected:
        raise RequestError(
            f"{source.name} has {expected} classes, {name} has {len(classes)}"
            f' ({shortened(classes)}): set data.source = "image-folder" for other images'
        )
    if len(classes) < 2:
        raise RequestError(f"{name} has one class only, {shortened(classes)}: {EXPECTED}")
