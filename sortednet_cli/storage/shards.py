"""The stock layout of weights: one safetensors file, or shards with an index.

Works on names only and needs no torch, so a folder can be recognised without it.
"""

from __future__ import annotations

from pathlib import Path

from sortednet_cli.errors import RequestError
from sortednet_cli.storage.files import read_json

INDEX_SUFFIX = ".index.json"
CONFIG, ADAPTER = "config.json", "adapter_config.json"


def sharded_files(path: Path) -> tuple[Path, ...]:
    """Return the files of the weights at `path`: the shards its index names, or `path` itself.

    Raises:
        RequestError: the index is damaged.
    """
    index = path.with_name(path.name + INDEX_SUFFIX)
    if not index.is_file():
        return (path,)
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise RequestError(f"{index} is damaged: it has no weight_map")
    names = sorted({str(name) for name in table.values()})
    if any(Path(name).name != name for name in names):
        raise RequestError(f"{index} is damaged: it names a file outside its folder")
    return tuple(path.with_name(name) for name in names)
