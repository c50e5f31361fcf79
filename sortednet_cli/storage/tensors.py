"""Safetensors files: written tensor by tensor, read slice by slice."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sortednet_cli.bounded import check_regular
from sortednet_cli.errors import RequestError, reason_of
from sortednet_cli.storage.checks import FileCheck
from sortednet_cli.storage.files import replacing, write_json
from sortednet_cli.storage.shards import INDEX_SUFFIX

_DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


_DTYPES = {name: dtype for dtype, name in _DTYPE_NAMES.items()}

MAX_HEADER = 100_000_000
"""Bytes of a safetensors header, as the format's own library bounds it."""

AT_ONCE = 1 << 24
"""Bytes of a tensor that are held in memory while it is copied."""

Blocks = Callable[[], Iterable[Tensor]]
"""Gives a tensor in pieces along its first dimension, in order."""


Whole = Callable[[Tensor], Tensor]
"""Makes of a tensor what is written of it, where memory holds but a part."""


def as_it_is(tensor: Tensor) -> Tensor:
    """Memory holds it whole."""
    return tensor


@dataclass(frozen=True)
class TensorEntry:
    """A tensor to be written, whose values are asked for when their turn comes."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    blocks: Blocks

    @property
    def num_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)


def write_entries(
    path: Path, entries: Iterable[TensorEntry], metadata: Mapping[str, str] | None = None
) -> FileCheck:
    """Write a safetensors file holding a block of one tensor at a time in memory.

    Returns the file's checksum, made of what goes by.

    The format is a length, a JSON header and the values in the header's order
    (https://github.com/huggingface/safetensors, section Format). Larger elements come
    first so that every tensor is aligned to its element size.
    """
    ordered = in_file_order(entries)
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    position = 0
    for entry in ordered:
        span = [position, position + entry.num_bytes]
        header[entry.name] = {
            "dtype": _DTYPE_NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": span,
        }
        position = span[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest, size = hashlib.sha256(), 8 + len(text) + position
    with replacing(path) as file:
        for piece in (len(text).to_bytes(8, "little"), text):
            file.write(piece)
            digest.update(piece)
        for entry in ordered:
            start = file.tell()
            for block in entry.blocks():
                values = block.detach().cpu().contiguous()
                assert values.dtype == entry.dtype, entry.name
                raw = values.flatten().view(torch.uint8).numpy().data
                file.write(raw)
                digest.update(raw)
            assert file.tell() - start == entry.num_bytes, entry.name
    return FileCheck(bytes=size, sha256=digest.hexdigest())


def in_file_order(entries: Iterable[TensorEntry]) -> list[TensorEntry]:
    """The order in which `write_entries` asks for values."""
    return sorted(entries, key=lambda entry: (-entry.dtype.itemsize, entry.name))


def write_shards(
    path: Path, entries: Iterable[TensorEntry], most_bytes: int
) -> dict[Path, FileCheck]:
    """Write a safetensors file, or several with an index if it were larger than `most_bytes`.

    Names and index are those of the stock layout: `model-00001-of-00002.safetensors` and
    `model.safetensors.index.json` for `model.safetensors`.

    Returns:
        The files written and their checksums, without the index.
    """
    shards: list[list[TensorEntry]] = [[]]
    for entry in entries:
        used = sum(other.num_bytes for other in shards[-1])
        if shards[-1] and used + entry.num_bytes > most_bytes:
            shards.append([])
        shards[-1].append(entry)
    if len(shards) == 1:
        return {path: write_entries(path, shards[0])}
    weight_map: dict[str, str] = {}
    files: dict[Path, FileCheck] = {}
    for number, shard in enumerate(shards, start=1):
        file = path.with_stem(f"{path.stem}-{number:05d}-of-{len(shards):05d}")
        files[file] = write_entries(file, shard)
        weight_map |= {entry.name: file.name for entry in shard}
    total = sum(entry.num_bytes for shard in shards for entry in shard)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json(path.with_name(path.name + INDEX_SUFFIX), index)
    return files


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    whole: Whole = as_it_is,
) -> FileCheck:
    """Write tensors, each as `whole` makes it when its turn comes; return the file's checksum."""
    return write_entries(path, entries_of(tensors, whole), metadata)


def entries_of(tensors: Mapping[str, Tensor], whole: Whole) -> list[TensorEntry]:
    """Tensors to be written, each as `whole` makes it when its turn comes."""
    return [
        TensorEntry(name, tensor.dtype, tuple(tensor.shape), partial(_one_block, tensor, whole))
        for name, tensor in tensors.items()
    ]


class TensorSlices(Protocol):
    """One stored tensor, of which parts can be read."""

    def get_shape(self) -> list[int]: ...
    def get_dtype(self) -> str: ...
    def __getitem__(self, index: tuple[slice, ...]) -> Tensor: ...


class TensorFiles:
    """Open safetensors files that hold tensors together; values are read when asked for."""

    def __init__(self, handles: Mapping[Path, Any], names: Mapping[str, str] | None = None) -> None:
        """Take open files; `names` are what tensors are asked for by, each with its stored name."""
        self._handles = handles
        self._paths = {
            name: path
            for path, handle in handles.items()
            for name in handle.keys()  # noqa: SIM118 (a handle cannot be iterated)
        }
        self._stored = {name: name for name in self._paths} if names is None else names
        self.names = frozenset(self._stored)

    def renamed(self, names: Mapping[str, str]) -> TensorFiles:
        """The same files, with tensors by other names: `names` maps each to the stored one."""
        return TensorFiles(self._handles, names)

    def slices(self, name: str) -> TensorSlices:
        """Return a tensor to read parts of; RequestError if no file has one of that name."""
        result: TensorSlices = self._handles[self._path(name)].get_slice(self._stored[name])
        return result

    def dtype(self, name: str) -> torch.dtype:
        """Type of a tensor's elements; RequestError if it is none that is written here."""
        found = self.slices(name).get_dtype()
        if found not in _DTYPES:
            raise RequestError(f"{self._path(name)}: {name} has the unknown type {found}")
        return _DTYPES[found]

    @property
    def num_bytes(self) -> int:
        """Bytes of all values together."""
        shapes = {name: self.slices(name).get_shape() for name in self.names}
        return sum(self.dtype(name).itemsize * math.prod(s) for name, s in shapes.items())

    def read(self, name: str, index: tuple[slice, ...] = ()) -> Tensor:
        """Read a tensor or a slice of it."""
        stored = self.slices(name)
        if index:
            return stored[index]
        whole: Tensor = self._handles[self._path(name)].get_tensor(self._stored[name])
        return whole

    def blocks(self, name: str, shape: tuple[int, ...]) -> Iterator[Tensor]:
        """Read the leading slice with that shape, in pieces along its first dimension.

        The file is opened anew for every piece: pages of it that were read count as this
        process's memory as long as it is mapped.
        """
        path, size = self._path(name), self.dtype(name).itemsize
        stored = self.slices(name).get_shape()
        if len(stored) != len(shape) or any(a < b for a, b in zip(stored, shape, strict=True)):
            raise RequestError(f"{path} does not belong here: {name} {stored} holds no {shape}")
        rest = tuple(slice(0, count) for count in shape[1:])
        rows = shape[0] if shape else 1
        stored_row = size * math.prod(stored[1:])
        step = max(1, AT_ONCE // max(1, stored_row))
        for start in range(0, rows, step):
            with _opened(path) as handle:
                if not shape:
                    yield handle.get_tensor(self._stored[name])
                else:
                    piece = slice(start, min(start + step, rows))
                    yield handle.get_slice(self._stored[name])[(piece, *rest)].clone()

    def _path(self, name: str) -> Path:
        if name not in self._stored:
            folder = ", ".join(path.name for path in self._handles)
            where = next(iter(self._handles)).parent
            raise RequestError(f"{where} does not belong here: {folder} holds no tensor {name!r}")
        return self._paths[self._stored[name]]


@contextmanager
def open_tensors(*paths: Path) -> Iterator[TensorFiles]:
    """Open safetensors files.

    Raises:
        RequestError: one is missing, truncated, or no safetensors file.
    """
    with ExitStack() as stack:
        handles = {}
        for path in paths:
            handles[path] = stack.enter_context(_opened(path))
        yield TensorFiles(handles)


def equal_blocks(one: Iterator[Tensor], other: Iterator[Tensor]) -> bool:
    """Compare tensors that come in pieces of different lengths."""
    left, right = next(one, None), next(other, None)
    while left is not None and right is not None:
        if not left.ndim:
            return torch.equal(left, right)
        rows = min(len(left), len(right))
        if not torch.equal(left[:rows], right[:rows]):
            return False
        left = left[rows:] if rows < len(left) else next(one, None)
        right = right[rows:] if rows < len(right) else next(other, None)
    return left is None and right is None


def _opened(path: Path) -> Any:
    try:
        _check_header(path)
        return safe_open(str(path), framework="pt")
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = reason_of(error)
        raise RequestError(f"{path} is damaged or no safetensors file: {reason}") from error


def _check_header(path: Path) -> None:
    """OSError unless a file's header can be read: opening a pipe would wait for ever."""
    check_regular(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise OSError(0, f"its header claims {length:,} bytes")


def read_tensors(*paths: Path, most: int | None = None) -> dict[str, Tensor]:
    """Read whole safetensors files; errors as `open_tensors`.

    Args:
        most: bytes of values at most; more are a RequestError.
    """
    with open_tensors(*paths) as files:
        if most is not None and (claimed := files.num_bytes) > most:
            names = ", ".join(map(str, paths))
            raise RequestError(f"{names} does not belong here: {claimed:,} bytes, not {most:,}")
        return {name: files.read(name) for name in sorted(files.names)}


def _one_block(tensor: Tensor, whole: Whole) -> Iterable[Tensor]:
    return [whole(tensor)]
