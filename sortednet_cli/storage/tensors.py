"""Read safetensors files slice by slice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sortednet_cli.bounded import check_regular
from sortednet_cli.errors import RequestError, reason_of
from sortednet_cli.storage.tensor_writer import DTYPE_NAMES

_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}

MAX_HEADER = 100_000_000
"""Most bytes of a safetensors header: the bound of the safetensors library."""

BLOCK_BYTES = 1 << 24
"""Bytes of a tensor held in memory at once while it is copied."""


class TensorSlices(Protocol):
    """One stored tensor that can be read slice by slice."""

    def get_shape(self) -> list[int]: ...
    def get_dtype(self) -> str: ...
    def __getitem__(self, index: tuple[slice, ...]) -> Tensor: ...


class TensorFiles:
    """A set of open safetensors files; values are read on demand."""

    def __init__(self, handles: Mapping[Path, Any], names: Mapping[str, str] | None = None) -> None:
        """Wrap open files; `names` maps the names used here to the stored ones."""
        self._handles = handles
        self._paths = {
            name: path
            for path, handle in handles.items()
            for name in handle.keys()  # noqa: SIM118 (a handle cannot be iterated)
        }
        self._stored = {name: name for name in self._paths} if names is None else names
        self.names = frozenset(self._stored)

    def renamed(self, names: Mapping[str, str]) -> TensorFiles:
        """Return the same files under new tensor names; `names` maps each to the stored one."""
        return TensorFiles(self._handles, names)

    def slices(self, name: str) -> TensorSlices:
        """Return a tensor to read slices of; RequestError if no file has it."""
        result: TensorSlices = self._handles[self._path(name)].get_slice(self._stored[name])
        return result

    def dtype(self, name: str) -> torch.dtype:
        """Return a tensor's dtype; RequestError if it is not supported."""
        stored = self.slices(name).get_dtype()
        if stored not in _DTYPES:
            raise RequestError(f"{self._path(name)}: {name} has the unknown type {stored}")
        return _DTYPES[stored]

    @property
    def num_bytes(self) -> int:
        """Total size of all values."""
        shapes = {name: self.slices(name).get_shape() for name in self.names}
        return sum(self.dtype(name).itemsize * math.prod(s) for name, s in shapes.items())

    def read(self, name: str, index: tuple[slice, ...] = ()) -> Tensor:
        """Read a tensor or a slice of it."""
        stored = self.slices(name)
        if index:
            return stored[index]
        tensor: Tensor = self._handles[self._path(name)].get_tensor(self._stored[name])
        return tensor

    def blocks(
        self, name: str, segments: Sequence[Sequence[tuple[int, int]]] | None = None
    ) -> Iterator[Tensor]:
        """Read a tensor or a slice of it, in blocks along its first dimension.

        Args:
            segments: along each dimension, the entries to read, as pairs (start, stop).

        The file is reopened for every block: pages that were read count as this process's
        memory for as long as the file stays mapped.
        """
        path, size = self._path(name), self.dtype(name).itemsize
        stored = self.slices(name).get_shape()
        segments = [[(0, length)] for length in stored] if segments is None else segments
        ends = [parts[-1][1] for parts in segments]
        if len(stored) != len(ends) or any(a < b for a, b in zip(stored, ends, strict=True)):
            raise RequestError(f"{path} does not belong here: {name} {stored} holds no {ends}")
        if not segments:
            with _open(path) as handle:
                yield handle.get_tensor(self._stored[name])
            return
        stored_row = size * math.prod(stored[1:])
        step = max(1, BLOCK_BYTES // max(1, stored_row))
        for first, last in segments[0]:
            for start in range(first, last, step):
                block = [(start, min(start + step, last))]
                with _open(path) as handle:
                    yield _read_block(handle.get_slice(self._stored[name]), [block, *segments[1:]])

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
        RequestError: one is missing, truncated, or not a safetensors file.
    """
    with ExitStack() as stack:
        handles = {}
        for path in paths:
            handles[path] = stack.enter_context(_open(path))
        yield TensorFiles(handles)


def equal_blocks(one: Iterator[Tensor], other: Iterator[Tensor]) -> bool:
    """Whether two tensors are equal; their blocks may have different lengths."""
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


def _read_block(
    stored: TensorSlices, segments: Sequence[Sequence[tuple[int, int]]], dim: int = 0
) -> Tensor:
    """Read segments of every dimension and join them, as a copy."""
    split = next((d for d in range(dim, len(segments)) if len(segments[d]) > 1), None)
    if split is None:
        return stored[tuple(slice(*parts[0]) for parts in segments)].clone()
    parts = ([*segments[:split], [part], *segments[split + 1 :]] for part in segments[split])
    return torch.cat([_read_block(stored, each, split + 1) for each in parts], split)


def _open(path: Path) -> Any:
    try:
        _check_header(path)
        return safe_open(str(path), framework="pt")
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = reason_of(error)
        raise RequestError(f"{path} is damaged or not a safetensors file: {reason}") from error


def _check_header(path: Path) -> None:
    """Raise OSError unless the file has a plausible header; opening a pipe would hang."""
    check_regular(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise OSError(0, f"its header claims {length:,} bytes")


def read_tensors(*paths: Path, most: int | None = None) -> dict[str, Tensor]:
    """Read all tensors of safetensors files; raises the errors of `open_tensors`.

    Args:
        most: RequestError if the values are larger than this many bytes.
    """
    with open_tensors(*paths) as files:
        if most is not None and (claimed := files.num_bytes) > most:
            names = ", ".join(map(str, paths))
            raise RequestError(f"{names} does not belong here: {claimed:,} bytes, not {most:,}")
        return {name: files.read(name) for name in sorted(files.names)}
