"""Matching of stored tensors with a root network's by equal names, apart from another head."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from sortednet_cli.errors import RequestError, shortened
from sortednet_cli.logs import logger

_COUNTER = "num_batches_tracked"
"""A buffer of batch normalisation that checkpoints may lack."""


def same_names(
    module: nn.Module, head: str, shapes: Mapping[str, tuple[int, ...]], where: str
) -> dict[str, str]:
    """Map a root network's tensors to stored tensors of the same name and shape.

    Args:
        module: the root network; only its names and shapes are used.
        head: path of the module that computes logits. If it has another size, its stored tensors
            are left out, and the log says so.
        shapes: the shapes of the stored tensors by name.
        where: the checkpoint's name in messages.

    Raises:
        RequestError: tensors are missing, unknown or misshapen.
    """
    own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    fitting = {name for name in own if shapes.get(name) == own[name]}
    in_head = {name for name in own.keys() | shapes.keys() if head and name.startswith(f"{head}.")}
    if not in_head & own.keys() <= fitting:
        fitting -= in_head
    else:
        in_head = set()
    problems = {
        "missing": [n for n in own.keys() - shapes.keys() - in_head if not n.endswith(_COUNTER)],
        "unknown": [*(shapes.keys() - own.keys() - in_head)],
        "misshapen": [
            f"{name} {list(shapes[name])} for {list(own[name])}"
            for name in (own.keys() & shapes.keys()) - fitting - in_head
        ],
    }
    parts = [f"{kind} {shortened(sorted(names))}" for kind, names in problems.items() if names]
    if parts:
        raise RequestError(f"{where} does not fit {type(module).__name__}: {'; '.join(parts)}")
    if in_head:
        old, new = (_outputs(each, in_head) for each in (shapes, own))
        why = f"has {new} outputs instead of {old}" if old else "it lacks"
        logger.info("%s: fresh weights for %s, which %s", where, head, why)
    return {name: name for name in fitting}


def _outputs(shapes: Mapping[str, tuple[int, ...]], names: set[str]) -> int | None:
    """Return the number of outputs of a head's last tensor, if there is one."""
    sizes = [shapes[name][0] for name in sorted(names) if shapes.get(name)]
    return sizes[-1] if sizes else None
