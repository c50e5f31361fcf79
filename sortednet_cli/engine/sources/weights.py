"""Reading of stored weights and normalisation statistics, checked against a configuration."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sortednet_cli.errors import RequestError
from sortednet_cli.families import Config, Family
from sortednet_cli.nesting import build_skeleton
from sortednet_cli.storage.tensors import TensorFiles, open_tensors, read_tensors


def read_statistics(path: Path, most: int) -> dict[str, dict[str, torch.Tensor]]:
    """Read the statistics of all sub-models, by sub-model and tensor.

    The file names a tensor `SUBMODEL/TENSOR`.

    Raises:
        RequestError: the file is damaged, or holds more than `most` bytes of values.
    """
    statistics: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in read_tensors(path, most=most).items():
        submodel, _, name = key.partition("/")
        statistics.setdefault(submodel, {})[name] = tensor
    return statistics


def check_weights(family: Family, config: Config, paths: tuple[Path, ...]) -> None:
    """Compare stored tensors with a configuration before either takes memory.

    Raises:
        RequestError: the files are damaged, or their tensors do not fit the configuration.
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
    """Copy stored tensors into a module; the files may lack its normalisation statistics."""
    with open_tensors(*paths) as files:
        _check_fit(module, files, paths)
        stored = {name: files.read(name) for name in files.names}
    module.load_state_dict(stored, strict=False)
