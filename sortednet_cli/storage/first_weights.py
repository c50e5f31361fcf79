"""Pretrained weights of families whose configuration is in the spec: files of tensors alone.

They come from a safetensors file, a folder that holds one (timm's, a finished run or an artifact of
ours), a folder or file inside an installed package, the hub, or torchvision.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sortednet_cli.errors import RequestError, WorkError, listed, reason_of, suggestion
from sortednet_cli.storage.artifact import ArtifactFolder
from sortednet_cli.storage.gguf import check_gguf, find_gguf
from sortednet_cli.storage.pretrained import find_pretrained, open_pretrained_files
from sortednet_cli.storage.run import RunFolder

if TYPE_CHECKING:
    from torch import Tensor

TORCHVISION = "torchvision:"


def find_weights(name: str) -> None:
    """RequestError if `name` is a place on this machine that holds no weights."""
    if name.startswith(TORCHVISION):
        return
    place = find_pretrained(name)
    if place is not None and (file := find_gguf(place)) is not None:
        check_gguf(file)


def read_weights(name: str) -> dict[str, Tensor]:
    """Read the tensors of `model.pretrained`.

    Raises:
        RequestError: there is no such place, or it holds no safetensors file.
        WorkError: the hub or torchvision's server cannot be reached.
    """
    if name.startswith(TORCHVISION):
        return _of_torchvision(name.removeprefix(TORCHVISION))
    from sortednet_cli.storage.tensors import read_tensors

    place = find_pretrained(name)
    if place is not None and (place / "run.json").is_file():
        return _of_run(place)
    if place is not None and ArtifactFolder.is_one(place):
        folder = ArtifactFolder.open(place)
        folder.checks(folder.manifest()).verify(folder.weights)
    return read_tensors(*open_pretrained_files(name))


def _of_run(path: Path) -> dict[str, Tensor]:
    """Read the root network's tensors, with the norms and statistics of the largest sub-model."""
    from sortednet_cli.space import SearchSpace
    from sortednet_cli.storage.tensors import read_tensors

    run = RunFolder.open(path)
    run.require_finished()
    for file in (run.weights, run.statistics):
        run.checks().verify(file)
    prefix = f"{SearchSpace.of(run.spec().space).largest.name}/"
    statistics = read_tensors(run.statistics)
    own = {n.removeprefix(prefix): t for n, t in statistics.items() if n.startswith(prefix)}
    weights = read_tensors(run.weights)
    if run.spec().model.norms == "by-width":
        weights = {name: tensor for name, tensor in weights.items() if "@" not in name}
    return {**weights, **own}


def _of_torchvision(name: str) -> dict[str, Tensor]:
    """Download weights as torchvision does, which checks their hash; only tensors are unpickled."""
    weights = find_torchvision_weights(name)
    try:
        tensors: dict[str, Tensor] = weights.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except Exception as error:  # whatever the transport raises, or a damaged file
        raise WorkError(
            f"model.pretrained = '{TORCHVISION}{name}' could not be read from {weights.url}:"
            f" {reason_of(error)}"
        ) from error
    return tensors


def find_torchvision_weights(name: str) -> Any:
    """Return torchvision's entry for weights; RequestError if it has none of that name."""
    import torchvision

    kind = name.partition(".")[0]
    try:
        return torchvision.models.get_weight(name)
    except (ValueError, AttributeError, KeyError) as error:
        models = torchvision.models.list_models(module=torchvision.models)
        kinds = sorted(
            type(each).__name__
            for model in models
            for each in torchvision.models.get_model_weights(model)
        )
        known = list(dict.fromkeys(kinds))
        if kind in known:
            members = [each.name for each in getattr(torchvision.models, kind)]
            reason = f"{kind} has {listed(members)}"
        elif kind in models:
            named = map(str, torchvision.models.get_model_weights(kind))
            reason = f"the weights of {kind} are {listed(named)}"
        else:
            reason = f"there is no {kind}{suggestion(kind, known)}"
        raise RequestError(f"model.pretrained = '{TORCHVISION}{name}': {reason}") from error
