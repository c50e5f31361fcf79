"""Stored weights and normalisation statistics, read and compared with a configuration."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sortednet_cli.errors import RequestError
from sortednet_cli.families import Config, Family
from sortednet_cli.nesting import build_skeleton
from sortednet_cli.storage.tensors import TensorFiles, open_tensors, read_tensors


def read_statistics(path: Path, most: int) -> dict[str, dict[str, torch.Tensor]]:
    """Read the statistics of all sub-models: names in the file are `sub-model/tensor`.

    Raises:
        RequestError: the file is damaged, or holds more than `most` bytes of values.
    """
    statistics: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in read_tensors(path, most=most).items():
        submodel, _, name = key.partition("/")
        statistics.setdefault(submodel, {})[name] = tensor
    return statistics


def check_weights(family: Family, config: Config, paths: tuple[Path, ...]) -> None:
    """Hold stored tensors against a configuration before memory is taken for either.

    Raises:
        RequestError: the files are damaged, or their tensors are not the configuration's.
    """
    with open_tensors(*paths) as files:
        _check_fit(build_skeleton(family, config), files, paths)


def _check_fit(module: nn.Module, files: TensorFiles, paths: tuple[Path, ...]) -> None:
    own = module.state_dict()
    where = paths[0] if len(paths) == 1 else paths[0].parent
    for name in files.names:
        if name not in own or tuple(own[name].shape) != tuple(files.slices(name).get_shape()):
            raise RequestError(f"{where} does not belong here: {name} does not fit the model")
    missing = {name for name, _ in module.named_parameters()} - set(files.names)
    if missing:
        raise RequestError(f"{where} does not belong here: it holds no tensor {min(missing)!r}")


def load_weights(module: nn.Module, paths: tuple[Path, ...]) -> None:
    """Copy stored tensors into a module; its own statistics may be absent from the files."""
    with open_tensors(*paths) as files:
        _check_fit(module, files, paths)
        stored = {name: files.read(name) for name in files.names}
    module.load_state_dict(stored, strict=False)
