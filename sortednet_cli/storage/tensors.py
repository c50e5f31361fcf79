"""Safetensors files: written tensor by tensor, read slice by slice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sortednet_cli.errors import RequestError
from sortednet_cli.storage.files import replacing

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


@dataclass(frozen=True)
class TensorEntry:
    """A tensor to be written, whose values are asked for when their turn comes."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    load: Callable[[], Tensor]

    @property
    def num_bytes(self) -> int:
        size = self.dtype.itemsize
        for count in self.shape:
            size *= count
        return size


def write_entries(path: Path, entries: Iterable[TensorEntry]) -> None:
    """Write a safetensors file holding one tensor at a time in memory.

    The format is a length, a JSON header and the values in the header's order
    (https://github.com/huggingface/safetensors, section Format). Larger elements come
    first so that every tensor is aligned to its element size.
    """
    ordered = sorted(entries, key=lambda entry: (-entry.dtype.itemsize, entry.name))
    header: dict[str, Any] = {}
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
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for entry in ordered:
            values = entry.load().detach().cpu().contiguous()
            assert tuple(values.shape) == entry.shape and values.dtype == entry.dtype, entry.name
            file.write(values.flatten().view(torch.uint8).numpy().data)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors that are in memory."""
    entries = [
        TensorEntry(name, tensor.dtype, tuple(tensor.shape), partial(_same, tensor))
        for name, tensor in tensors.items()
    ]
    write_entries(path, entries)


class TensorSlices(Protocol):
    """One stored tensor, of which parts can be read."""

    def get_shape(self) -> list[int]: ...
    def __getitem__(self, index: tuple[slice, ...]) -> Tensor: ...


class TensorFile:
    """An open safetensors file; values are read when asked for."""

    def __init__(self, path: Path, handle: Any) -> None:
        self.path = path
        self._handle = handle
        self.names = frozenset(handle.keys())

    def slices(self, name: str) -> TensorSlices:
        """Return a tensor to read parts of; RequestError if the file has none of that name."""
        if name not in self.names:
            raise RequestError(f"{self.path} does not belong here: it holds no tensor {name!r}")
        result: TensorSlices = self._handle.get_slice(name)
        return result

    def read(self, name: str, index: tuple[slice, ...] = ()) -> Tensor:
        """Read a tensor or a slice of it."""
        stored = self.slices(name)
        if index:
            return stored[index]
        whole: Tensor = self._handle.get_tensor(name)
        return whole


@contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Open a safetensors file.

    Raises:
        RequestError: it is missing, truncated, or no safetensors file.
    """
    try:
        handle = safe_open(str(path), framework="pt")
    except (OSError, SafetensorError) as error:
        raise RequestError(f"{path} is damaged or no safetensors file: {error}") from error
    with handle as opened:
        yield TensorFile(path, opened)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a whole safetensors file; errors as `open_tensors`."""
    with open_tensors(path) as file:
        return {name: file.read(name) for name in sorted(file.names)}


def _same(tensor: Tensor) -> Tensor:
    return tensor
