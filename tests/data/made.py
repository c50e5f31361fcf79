"""Pico data sets, made on the spot."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def png(seed: int, width: int = 8, height: int = 8, mode: str = "RGB") -> bytes:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def tree_files(
    parts: dict[str, int] | None = None, classes: str = "abc", size: int = 8
) -> dict[str, bytes]:
    """Files of a tree with so many images of each class in each part."""
    files = {}
    for part, count in (parts or {"train": 10, "test": 4}).items():
        for label in classes:
            for number in range(count):
                name = "/".join(filter(None, (part, label, f"{number:03}.png")))
                files[name] = png(len(files), size, size)
    return files


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def idx_bytes(values: np.ndarray) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in values.shape)
    return bytes((0, 0, 8, values.ndim)) + sizes + values.astype(np.uint8).tobytes()


def write_idx(folder: Path, size: int = 28, zipped: bool = False) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for prefix, count in (("train", 50), ("t10k", 20)):
        images = random.integers(0, 256, (count, size, size), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, values in (("images-idx3", images), ("labels-idx1", labels)):
            arrays[f"{prefix}-{name}"] = values
            path = folder / f"{prefix}-{name}-ubyte"
            data = idx_bytes(values)
            if zipped:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(data))
            else:
                path.write_bytes(data)
    return arrays
