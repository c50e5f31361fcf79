"""Fitting a checkpoint's tensors to a stock class, and saying exactly what does not fit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from torch import Tensor, nn

from sortednet_cli.errors import RequestError, listed
from sortednet_cli.families.transformer_nets import TransformerFamily
from sortednet_cli.logs import logger

_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
_HEAD_MODULES = ("cls", "lm_head", "classifier", "score", "qa_outputs")
_OPTIONAL = (".pooler.", "position_ids", "rotary_emb")
_MOST_LISTED = 5


def load_checkpoint_tensors(
    family: TransformerFamily, module: nn.Module, tensors: Mapping[str, Tensor], where: str
) -> None:
    """Copy a checkpoint into the root network; see `matched_names`."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    own = dict(module.named_parameters(remove_duplicate=False))
    names = matched_names(family, module, shapes, where)
    fitting = {name: tensors[stored].to(own[name].dtype) for name, stored in names.items()}
    module.load_state_dict(fitting, strict=False)


def matched_names(
    family: TransformerFamily,
    module: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    where: str,
) -> dict[str, str]:
    """Tell which of a checkpoint's tensors each parameter of the root network starts from.

    The checkpoint may be of the model alone or with a head. A head that the task needs and
    the checkpoint lacks keeps its fresh weights; one that the task does not need is left out.
    Both are said in the log.

    Args:
        module: the root network; its values do not matter.
        shapes: of the checkpoint's tensors by name.

    Raises:
        RequestError: tensors of the model itself are missing, left over or misshapen.
    """
    own = dict(module.named_parameters(remove_duplicate=False))
    stored = {name for name, _ in module.named_parameters()}
    base = f"{family.architecture.base}."
    found = _own_names(shapes, base)

    def of_the_model(name: str) -> bool:
        return name.startswith(base) and not any(part in name for part in _OPTIONAL)

    fitting = {n: old for n, old in found.items() if n in own and own[n].shape == shapes[old]}
    wrong = {
        "missing": [n for n in stored - found.keys() if of_the_model(n)],
        "unknown": [n for n in found.keys() - own.keys() if of_the_model(n)],
        "misshapen": [
            f"{n} {list(shapes[found[n]])} for {list(own[n].shape)}"
            for n in (found.keys() & own.keys()) - fitting.keys()
            if of_the_model(n)
        ],
    }
    if any(wrong.values()):
        parts = [f"{kind} {_shortened(names)}" for kind, names in wrong.items() if names]
        raise RequestError(f"{where} does not fit {family.loader}: {'; '.join(parts)}")
    if fresh := stored - fitting.keys():
        logger.info("fresh weights, not in the checkpoint: %s", _shortened(fresh))
    return fitting


def _own_names(names: Collection[str], base: str) -> dict[str, str]:
    """Name a checkpoint's tensors as a model with a head does, whichever form it has.

    Returns:
        The checkpoint's name by that name.
    """
    bare = not any(name.startswith(base) for name in names)
    found = {}
    for name in names:
        new = name
        for old, current in _OLD_NAMES.items():
            new = new.replace(old, current)
        is_head = new.partition(".")[0] in _HEAD_MODULES
        found[base + new if bare and not is_head else new] = name
    return found


def _shortened(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return listed(names[:_MOST_LISTED]) + more
