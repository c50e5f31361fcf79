"""From a spec to images: what each source is called and where it is looked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sortednet_cli.data.images.arrays import (
    CIFAR_FOLDERS,
    find_idx,
    read_cifar,
    read_digits,
    read_idx,
)
from sortednet_cli.data.images.arrays import resized as resize_arrays
from sortednet_cli.data.images.cache import Decoded
from sortednet_cli.data.images.decode import Decoder
from sortednet_cli.data.images.download import read_downloaded
from sortednet_cli.data.images.files import MEMORY_LIMIT, FileOptions, FolderTree, decode_tar
from sortednet_cli.data.images.tree import EXPECTED
from sortednet_cli.errors import RequestError, shortened
from sortednet_cli.spec import ImageDataSpec
from sortednet_cli.spec.places import find_data
from sortednet_cli.spec.vocabulary import SOURCES


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
    path = find_data(spec)
    if path is None:
        return spec.source, _built_in_or_downloaded(spec)
    name = path.name or spec.source
    if path.is_dir():
        if (arrays := _read_arrays(path, spec.source)) is not None:
            decoded, own_name = arrays
            return own_name or name, _sized(decoded, spec)
        located = _open_folder(path, spec)
    elif path.is_file():
        located = _open_tar(path, spec)
    else:
        raise RequestError(f"data.path: {path} is no file or folder: {EXPECTED}, or a tar of them")
    if with_all_classes:
        _check_classes(located, spec, name)
    return name, located


def _built_in_or_downloaded(spec: ImageDataSpec) -> Decoded:
    decoded = read_digits() if spec.source == "digits" else read_downloaded(spec.source)
    return _sized(decoded, spec)


def _read_arrays(folder: Path, source: str) -> tuple[Decoded, str | None] | None:
    """Read idx or CIFAR files if the folder has them; verified ones keep the source's name."""
    if source in CIFAR_FOLDERS:
        inner = CIFAR_FOLDERS[source]
        root = folder.parent if folder.name == inner else folder
        return (read_cifar(root, source), source) if (root / inner).is_dir() else None
    if source == "image-folder":
        return None
    place = find_idx(folder, source)
    return (read_idx(place, source), None) if place else None


def _sized(decoded: Decoded, spec: ImageDataSpec) -> Decoded:
    """Bring arrays to the spec's size, or check that they have the source's own."""
    if spec.storage == "stream":
        raise RequestError(
            f'data.storage = "stream" needs a folder of image files; {spec.source} comes as arrays'
        )
    facts = SOURCES[spec.source]
    images = decoded.parts["train"][0]
    size = spec.image_size or facts.image_size or images.shape[-1]
    count = sum(len(labels) for _, labels in decoded.parts.values())
    _options(spec).check_memory(count, size, spec.source, "choose a smaller data.image_size")
    for pixels, _ in decoded.parts.values():
        if spec.image_size is None and pixels.shape[-1] != size:
            raise RequestError(
                f"images of {spec.source} are {size}x{size}, these are"
                f" {pixels.shape[-1]}x{pixels.shape[-1]}; set data.image_size to resize all"
            )
    return resize_arrays(decoded, size)


def _options(spec: ImageDataSpec) -> FileOptions:
    facts = SOURCES[spec.source]
    return FileOptions(
        channels=facts.channels or 3,
        size=spec.image_size or facts.image_size,
        resize=spec.image_size is not None,
        limit=MEMORY_LIMIT if spec.storage == "auto" else None,
    )


def _open_tar(path: Path, spec: ImageDataSpec) -> Decoded:
    if spec.storage == "stream":
        raise RequestError(
            f'data.storage = "stream" needs a folder of image files: unpack {path.name} first'
        )
    return decode_tar(path, _options(spec))


def _open_folder(path: Path, spec: ImageDataSpec) -> Located:
    tree = FolderTree.open(path)
    options = _options(spec)
    decoder = options.decoder(tree.first())
    num_bytes = len(tree.samples) * decoder.channels * decoder.size**2
    if spec.storage == "stream" or (spec.storage == "auto" and num_bytes > MEMORY_LIMIT):
        return StreamedFolder(tree, decoder)
    return tree.decode(options)


def _check_classes(located: Located, spec: ImageDataSpec, name: str) -> None:
    """Hold files to two classes, or to as many as the published data set of their name has."""
    classes = located.classes if isinstance(located, Decoded) else located.tree.layout.classes
    expected = SOURCES[spec.source].num_classes
    if expected is not None and len(classes) != expected:
        raise RequestError(
            f"{spec.source} has {expected} classes, {name} has {len(classes)}"
            f' ({shortened(classes)}): set data.source = "image-folder" for other images'
        )
    if len(classes) < 2:
        raise RequestError(f"{name} has one class only, {shortened(classes)}: {EXPECTED}")
