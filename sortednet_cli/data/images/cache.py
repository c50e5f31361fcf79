"""Cache decoded images in the user's cache folder, keyed by the content they come from."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sortednet_cli.data.split import PARTS, PartName
from sortednet_cli.errors import WorkError
from sortednet_cli.logs import logger
from sortednet_cli.storage.cache import cache_folder
from sortednet_cli.storage.tensor_writer import write_tensors

_VERSION = 2
"""Incremented when the same files decode to other pixels."""


@dataclass(frozen=True)
class Decoded:
    """A data set before it is split: images uint8 [N, C, H, W] and labels int64 [N] by part.

    `notes` are remarks to log, one line each.
    """

    classes: tuple[str, ...]
    parts: Mapping[PartName, tuple[Tensor, Tensor]]
    notes: tuple[str, ...] = ()


def cached(key: str, decode: Callable[[], Decoded]) -> Decoded:
    """Return the images cached under `key`, or else decode and cache them.

    A damaged cache file or an unwritable cache folder is a warning, not an error.
    """
    name = hashlib.sha256(f"{_VERSION}\n{key}".encode()).hexdigest()[:32]
    try:
        path = cache_folder() / "images" / f"{name}.safetensors"
    except WorkError as error:
        logger.warning("decoded images are not cached: %s", error)
        return decode()
    if path.is_file():
        try:
            return _load(path)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("the cache file %s is damaged (%s): decoding again", path, error)
    decoded = decode()
    try:
        _store(path, decoded)
    except (OSError, WorkError) as error:
        logger.warning("decoded images could not be cached in %s: %s", path.parent, error)
    return decoded


def _load(path: Path) -> Decoded:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if _checksum(tensors) != int(metadata["crc32"]):
        raise ValueError("its checksum is wrong")
    return Decoded(
        tuple(json.loads(metadata["classes"])),
        {
            part: (tensors[f"{part}.images"], tensors[f"{part}.labels"])
            for part in PARTS
            if f"{part}.images" in tensors
        },
        tuple(json.loads(metadata["notes"])),
    )


def _store(path: Path, decoded: Decoded) -> None:
    tensors: dict[str, Tensor] = {}
    for part, (images, labels) in decoded.parts.items():
        tensors[f"{part}.images"] = images
        tensors[f"{part}.labels"] = labels
    metadata = {
        "classes": json.dumps(decoded.classes),
        "notes": json.dumps(decoded.notes),
        "crc32": str(_checksum(tensors)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, metadata)


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    value = 0
    for name in sorted(tensors):
        data = tensors[name].contiguous().flatten().view(torch.uint8)
        value = zlib.crc32(data.numpy().data, value)
    return value
