"""Write safetensors files tensor by tensor, in one file or in shards."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from torch import Tensor

from sortednet_cli.storage.checks import FileCheck
from sortednet_cli.storage.files import replacing, write_json
from sortednet_cli.storage.shards import INDEX_SUFFIX

DTYPE_NAMES = {
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
"""Name of each dtype in a safetensors header."""

Blocks = Callable[[], Iterable[Tensor]]
"""Yields a tensor in consecutive blocks along its first dimension."""

Gather = Callable[[Tensor], Tensor]
"""Returns the full tensor of a sharded one."""


def unchanged(tensor: Tensor) -> Tensor:
    """Return a tensor that is not sharded."""
    return tensor


@dataclass(frozen=True)
class TensorEntry:
    """A tensor to be written; its values are produced only when they are written."""

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
    """Write a safetensors file with one block of one tensor in memory at a time.

    Returns the file's checksum, computed while it is written.

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
            "dtype": DTYPE_NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": span,
        }
        position = span[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest, size = hashlib.sha256(), 8 + len(text) + position
    with replacing(path) as file:
        for part in (len(text).to_bytes(8, "little"), text):
            file.write(part)
            digest.update(part)
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
    """Sort entries into the order in which `write_entries` writes them."""
    return sorted(entries, key=lambda entry: (-entry.dtype.itemsize, entry.name))


def write_shards(
    path: Path, entries: Iterable[TensorEntry], most_bytes: int
) -> dict[Path, FileCheck]:
    """Write one safetensors file, or shards of at most `most_bytes` with an index.

    A larger tensor gets a shard of its own. Names follow the stock layout:
    `model-00001-of-00002.safetensors` and `model.safetensors.index.json` for `model.safetensors`.

    Returns:
        The checksums of the files written, except the index.
    """
    by_name = {entry.name: entry for entry in entries}
    split = split_state_dict_into_shards_factory(
        by_name,
        get_storage_size=lambda entry: entry.num_bytes,
        filename_pattern=f"{path.stem}{{suffix}}{path.suffix}",
        max_shard_size=most_bytes,
    )
    files = {
        path.with_name(file): write_entries(path.with_name(file), [by_name[name] for name in names])
        for file, names in split.filename_to_tensors.items()
    }
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        write_json(path.with_name(path.name + INDEX_SUFFIX), index)
    return files


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    gather: Gather = unchanged,
) -> FileCheck:
    """Write tensors, gathering each just before it is written; return the file's checksum."""
    return write_entries(path, entries_of(tensors, gather), metadata)


def entries_of(tensors: Mapping[str, Tensor], gather: Gather) -> list[TensorEntry]:
    """Make entries of tensors; each is gathered just before it is written."""
    return [
        TensorEntry(name, tensor.dtype, tuple(tensor.shape), partial(_one_block, tensor, gather))
        for name, tensor in tensors.items()
    ]


def _one_block(tensor: Tensor, gather: Gather) -> Iterable[Tensor]:
    return [gather(tensor)]
