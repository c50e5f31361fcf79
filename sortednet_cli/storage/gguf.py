"""GGUF files, dequantised once into a folder of the cache that is read as any other checkpoint."""

from __future__ import annotations

import hashlib
import io
import json
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sortednet_cli.bounded import check_regular
from sortednet_cli.errors import RequestError, install_line, listed, reason_of, shortened
from sortednet_cli.logs import logger
from sortednet_cli.storage.cache import cache_folder
from sortednet_cli.storage.files import PathExists, new_folder, write_json

SUFFIX = ".gguf"
_MAGIC = b"GGUF"
_PACKAGES = ("gguf", "accelerate")
_VERSION = 1
"""Incremented when the same file gives other tensors."""


def find_gguf(place: Path) -> Path | None:
    """Return the GGUF file that `place` is, or the only one of a folder without other weights."""
    if place.is_file():
        return place if place.suffix == SUFFIX else None
    found = sorted(place.glob(f"*{SUFFIX}"))
    others = any(next(place.glob(f"*{suffix}"), None) for suffix in (".safetensors", ".bin"))
    return found[0] if len(found) == 1 and not others else None


def check_gguf(file: Path) -> None:
    """Check what can be told before torch is imported.

    Raises:
        RequestError: it is no GGUF file, or the packages that read one are not installed.
    """
    try:
        check_regular(file)
        with file.open("rb") as opened:
            start = opened.read(len(_MAGIC))
    except OSError as error:
        raise RequestError(f"{file} cannot be read: {reason_of(error)}") from error
    if start != _MAGIC:
        raise RequestError(f"{file} is not a GGUF file")
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise RequestError(f"{file}: reading GGUF needs {listed(missing)}: {install_line('gguf')}")


def dequantised(file: Path) -> Path:
    """Return a folder with the configuration, float32 tensors and tokenizer of a GGUF file.

    Raises:
        RequestError: the file is damaged or lacks tensors, transformers does not know its
            architecture, or the packages that read it are not installed.
        WorkError: the cache folder cannot be written.
    """
    check_gguf(file)
    status = file.stat()
    return _dequantised(file.resolve(), status.st_size, status.st_mtime_ns)


@cache
def _dequantised(file: Path, size: int, changed: int) -> Path:
    import transformers

    key = json.dumps([_VERSION, transformers.__version__, str(file), size, changed])
    folder = cache_folder() / "gguf" / hashlib.sha256(key.encode()).hexdigest()[:32]
    if folder.is_dir():
        logger.info("%s: dequantised to float32 before, in %s", file.name, folder)
        return folder
    model, tokenizer = _read(file)
    with suppress(PathExists), new_folder(folder) as staging:  # or another process was faster
        _write(staging, model, tokenizer)
    num_bytes = sum(part.stat().st_size for part in folder.glob("*.safetensors"))
    logger.info("%s: dequantised to float32, %d MB in %s", file.name, num_bytes // 10**6, folder)
    return folder


def _read(file: Path) -> tuple[Any, Any]:
    """Read the model and the tokenizer with transformers' own reader."""
    import torch
    import transformers

    from sortednet_cli.machine.memory import lack_of_memory

    options: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    packs = getattr(transformers, "GgufConfig", None)  # newer ones keep weights packed on a GPU
    dense = {"quantization_config": packs(dequantize=True)} if packs else {}
    model_class: Any = transformers.AutoModelForCausalLM
    tokenizer_class: Any = transformers.AutoTokenizer
    try:
        with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            tokenizer = tokenizer_class.from_pretrained(
                file.parent, trust_remote_code=False, **options
            )
            model, loading = model_class.from_pretrained(
                file.parent,
                dtype=torch.float32,
                trust_remote_code=False,
                output_loading_info=True,
                **dense,
                **options,
            )
    except Exception as error:  # whatever the reader, the tokenizer or the stock class raises
        if lack_of_memory(error):
            raise
        raise RequestError(f"{file} cannot be read: {reason_of(error)}") from error
    # transformers fills these with random values. A part of a split file lacks many.
    if missing := sorted(loading["missing_keys"]):
        raise RequestError(f"{file} lacks tensors of its network: {shortened(missing)}")
    return model, tokenizer


def _write(folder: Path, model: Any, tokenizer: Any) -> None:
    from sortednet_cli.storage.tensor_writer import write_tensors

    tensors: dict[str, Any] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not any(tensor is other for other in tensors.values()):  # tied ones are stored once
            tensors[name] = tensor
    write_tensors(folder / "model.safetensors", tensors)
    config = {**model.config.to_dict(), "architectures": [type(model).__name__]}
    for entry in ("quantization_config", "_model_name_or_path"):
        config.pop(entry, None)
    write_json(folder / "config.json", config)
    tokenizer.save_pretrained(folder)
