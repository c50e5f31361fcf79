"""Folders of pretrained models: on disk, in an installed package, or on the hub.

Finding a folder needs no torch; reading its weights does.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sortednet_cli.errors import RequestError, WorkError, listed, reason_of
from sortednet_cli.logs import logger
from sortednet_cli.storage.files import read_json
from sortednet_cli.storage.gguf import SUFFIX, dequantised, find_gguf
from sortednet_cli.storage.hub import download, name_of
from sortednet_cli.storage.shards import ADAPTER, CONFIG, INDEX_SUFFIX, sharded_files

if TYPE_CHECKING:
    from torch import Tensor

_PACKAGE = "package:"
_WEIGHTS = "model.safetensors"
_FILES = (".safetensors", SUFFIX)
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_OTHER_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", SUFFIX, ".h5", ".msgpack"}


@dataclass(frozen=True)
class Pretrained:
    """A folder with a configuration, safetensors files and a tokenizer."""

    folder: Path
    config: dict[str, Any]
    files: tuple[Path, ...]

    def tensors(self) -> dict[str, Tensor]:
        """Read all weights."""
        from sortednet_cli.storage.tensors import read_tensors

        return read_tensors(*self.files)


def open_pretrained(name: str) -> Pretrained:
    """Find a pretrained model: a folder, `package:NAME/FOLDER`, a hub name, or a GGUF file.

    Raises:
        RequestError: there is no such folder or package, the weights are missing or pickled, the
            folder holds an adapter, or a GGUF file cannot be read.
        WorkError: the hub cannot be reached, or there is no room for dequantised weights.
    """
    folder = find_pretrained(name) or _download(name)
    if (file := find_gguf(folder)) is not None:
        folder = dequantised(file)
    if folder.is_file():
        raise RequestError(f"{folder} is a file: give the folder that holds {CONFIG} too")
    if (folder / ADAPTER).is_file():
        raise RequestError(
            f"{folder} holds an adapter ({ADAPTER}), which changes the weights of another model:"
            " merge the two (`merge_and_unload()` of peft) and save the result, or remove the"
            " adapter's files"
        )
    config = read_json(folder / CONFIG)
    return Pretrained(folder, config, _weight_files(folder))


def open_pretrained_files(name: str) -> tuple[Path, ...]:
    """Find the weights of a pretrained model, whose folder needs no configuration.

    Raises:
        RequestError: there is no such file, folder or package, or the weights are missing or
            pickled.
        WorkError: the hub cannot be reached.
    """
    place = find_pretrained(name) or _download(name)
    if not place.is_file():
        return _weight_files(place)
    if place.suffix != ".safetensors":
        raise RequestError(f"model.pretrained: {place} is not a safetensors file")
    return (place,)


def find_pretrained(name: str) -> Path | None:
    """Return the folder or file of a pretrained model here; None for a name on the hub.

    Raises:
        RequestError: there is no such file, folder or package.
    """
    if name.startswith(_PACKAGE):
        return _in_package(name)
    try:
        folder = Path(name).expanduser()
    except RuntimeError as error:
        raise RequestError(f"model.pretrained: {name!r}: {reason_of(error)}") from error
    if folder.is_dir() or folder.is_file():
        return folder.absolute()
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or folder.suffix in _FILES:
        raise RequestError(f"model.pretrained: there is no file or folder {name}")
    return None


def hub_name(name: str) -> str | None:
    """The name on the hub of a pretrained model; None if it has none, or none that is known."""
    place = find_pretrained(name)
    if place is not None:
        return name_of(place)
    return None if ":" in name else name  # `torchvision:NAME` is none of the hub's


def find_teacher(name: str) -> Path:
    """Return the folder of a teacher: a run, an artifact, a stock checkpoint, or a hub name.

    Raises:
        RequestError: there is no such folder.
        WorkError: the hub cannot be reached.
    """
    try:
        return find_pretrained(name) or open_pretrained(name).folder
    except (RequestError, WorkError) as error:
        raise type(error)(str(error).replace("model.pretrained", "train.teacher")) from error


def _in_package(name: str) -> Path:
    package, _, inner = name.removeprefix(_PACKAGE).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise RequestError(
            f"model.pretrained = {name!r}: there is no package {package!r} here;"
            f" pip install {package.replace('_', '-')}"
        )
    folder = Path(spec.submodule_search_locations[0]) / inner
    if ".." in Path(inner).parts or not folder.exists():
        raise RequestError(
            f"model.pretrained = {name!r}: the package has no file or folder {inner!r}"
        )
    return folder


def _download(name: str) -> Path:
    return download(name, f"model.pretrained = {name!r}")


def _weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the files that transformers would read: it prefers the single file to shards."""
    single, index = folder / _WEIGHTS, folder / f"{_WEIGHTS}{INDEX_SUFFIX}"
    if single.is_file():
        if index.is_file():
            logger.warning(
                "%s: reading weights from %s, as transformers does, and ignoring the shards of %s",
                folder,
                single.name,
                index.name,
            )
        return (single,)
    if index.is_file():
        return sharded_files(single)
    for pickle in _PICKLES:
        if (folder / pickle).is_file():
            raise RequestError(
                f"{folder / pickle} is a pickle, which can run code: {_advice(folder)}"
            )
    others = sorted(file.name for file in folder.glob("*") if file.suffix in _OTHER_WEIGHTS)
    raise RequestError(
        f"{folder} holds no {_WEIGHTS}" + (f", but {listed(others)}" if others else "")
    )


def _advice(folder: Path) -> str:
    here, there = json.dumps(str(folder)), json.dumps(f"{folder}-safetensors")
    return (
        "if you trust it, convert it with: python -c 'from transformers import AutoModel,"
        f" AutoTokenizer; AutoModel.from_pretrained({here}).save_pretrained({there});"
        f" AutoTokenizer.from_pretrained({here}).save_pretrained({there})'"
    )
