"""Reading of stored weights and normalisation statistics, checked against a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from sortednet_cli.errors import RequestError
from sortednet_cli.families import Config, Family
from sortednet_cli.nesting import build_skeleton
from sortednet_cli.storage.tensors import TensorFiles, open_tensors, read_tensors

Shapes = Mapping[str, tuple[int, ...]]

_NOTHING: Shapes = MappingProxyType({})


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


def check_weights(
    family: Family, config: Config, paths: tuple[Path, ...], beside: Shapes = _NOTHING
) -> None:
    """Compare stored tensors with a configuration before either takes memory.

    Args:
        beside: shapes of the tensors that are stored besides the module's.

    Raises:
        RequestError: the files are damaged, or their tensors do not fit the configuration.
    """
    with open_tensors(*paths) as files:
        _check_fit(build_skeleton(family, config), beside, files, paths)


def _check_fit(
    module: nn.Module, beside: Shapes, files: TensorFiles, paths: tuple[Path, ...]
) -> None:
    own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    own.update(beside)
    where = paths[0] if len(paths) == 1 else paths[0].parent
    for name in files.names:
        if own.get(name) != tuple(files.slices(name).get_shape()):
            raise RequestError(f"{where} does not belong here: {name} does not fit the model")
    missing = {*dict(module.named_parameters()), *beside} - set(files.names)
    if missing:
        raise RequestError(f"{where} does not belong here: it holds no tensor {min(missing)!r}")


def read_weights(
    module: nn.Module, paths: tuple[Path, ...], beside: Shapes = _NOTHING
) -> dict[str, torch.Tensor]:
    """Read a module's stored tensors; the files may lack its normalisation statistics.

    Arguments and errors are those of `check_weights`.
    """
    with open_tensors(*paths) as files:
        _check_fit(module, beside, files, paths)
        return {name: files.read(name) for name in files.names}
