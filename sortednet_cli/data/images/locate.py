"""Read the images that a spec names, resize them, and check their size and classes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from sortednet_cli.data.images.arrays import resize_parts
from sortednet_cli.data.images.cache import Decoded
from sortednet_cli.data.images.decode import ImageDecoder
from sortednet_cli.data.images.files import MEMORY_LIMIT, FileOptions, FolderTree, decode_tar
from sortednet_cli.data.images.sources.base import EXPECTED, ImageSource
from sortednet_cli.errors import RequestError, WorkError, shortened
from sortednet_cli.spec import ImageDataSpec
from sortednet_cli.spec.data_sources import PATH_KEY, data_source


@dataclass(frozen=True)
class StreamedFolder:
    """A folder of image files that is read during training, and its decoder."""

    tree: FolderTree
    decoder: ImageDecoder


Located = Decoded | StreamedFolder


def locate(spec: ImageDataSpec, *, with_all_classes: bool) -> tuple[str, Located]:
    """Return the name of the data, and the data: decoded, or to be streamed.

    `with_all_classes` requires all classes of the source, for data that a model is made for.

    Raises:
        RequestError: the path holds something else; the message says what was expected.
        WorkError: a download fails, or another package's source reads no images.
    """
    source = data_source(spec.source)
    assert isinstance(source, ImageSource)
    path = source.find(spec.path)
    name, located = source.data_name(spec.path, path), source.read(spec, path)
    if not isinstance(located, Located):
        raise WorkError(f"data.source: {source.name!r} read no images, but {located!r:.60}")
    if isinstance(located, Decoded):
        located = _resized(located, source, spec)
    if with_all_classes:
        _check_classes(located, source, name)
    return name, located


def read_files(source: ImageSource, spec: ImageDataSpec, path: Path) -> Located:
    """Read a folder of image files, or a tar of one; RequestError if it is neither."""
    options = _options(source, spec)
    if path.is_file():
        if spec.storage == "stream":
            raise RequestError(
                f'data.storage = "stream" needs a folder of image files: unpack {path.name} first'
            )
        return decode_tar(path, options)
    if not path.is_dir():
        raise RequestError(
            f"{PATH_KEY}: {path} is not a file or folder: {EXPECTED}, or a tar of them"
        )
    tree = FolderTree.open(path)
    decoder = options.decoder(tree.first())
    num_bytes = len(tree.samples) * decoder.channels * decoder.size**2
    if spec.storage == "stream" or (spec.storage == "auto" and num_bytes > MEMORY_LIMIT):
        return StreamedFolder(tree, decoder)
    return tree.decode(options)


def _resized(decoded: Decoded, source: ImageSource, spec: ImageDataSpec) -> Decoded:
    """Resize arrays to the spec's size, or check that they have the source's size."""
    if spec.storage == "stream":
        raise RequestError(
            f'data.storage = "stream" needs a folder of image files; {source.name} has arrays'
        )
    images = decoded.parts["train"][0]
    size = spec.image_size or source.image_size or images.shape[-1]
    count = sum(len(labels) for _, labels in decoded.parts.values())
    options = _options(source, spec)
    options.check_memory(count, size, source.name, "choose a smaller data.image_size")
    for pixels, _ in decoded.parts.values():
        if spec.image_size is None and pixels.shape[-1] != size:
            raise RequestError(
                f"images of {source.name} are {size}x{size}, but these are"
                f" {pixels.shape[-1]}x{pixels.shape[-1]}; set data.image_size to resize all"
            )
    return dataclasses.replace(decoded, parts=resize_parts(decoded.parts, size))


def _options(source: ImageSource, spec: ImageDataSpec) -> FileOptions:
    return FileOptions(
        channels=source.channels,
        size=spec.image_size or source.image_size,
        resize=spec.image_size is not None,
        limit=MEMORY_LIMIT if spec.storage == "auto" else None,
    )


def _check_classes(located: Located, source: ImageSource, name: str) -> None:
    """Require the number of classes of the source if it is known, and at least two."""
    classes = located.classes if isinstance(located, Decoded) else located.tree.layout.classes
    expected = source.num_classes
    if expected is not None and len(classes) != expected:
        raise RequestError(
            f"{source.name} has {expected} classes, but {name} has {len(classes)}"
            f' ({shortened(classes)}): set data.source = "image-folder" for other images'
        )
    if len(classes) < 2:
        raise RequestError(f"{name} has only one class, {shortened(classes)}: {EXPECTED}")
