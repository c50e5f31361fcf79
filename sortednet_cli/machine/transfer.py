"""Copies between the host and a device that make the host wait as seldom as possible.

A GPU works through a queue, and the host only fills it. A copy to the device joins the queue; a
value that the host reads is there when all that was queued before it is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

Tree = TypeVar("Tree")


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device, in its queue; what is there already is returned as it is."""
    if tensor.is_cpu and device.type == "cuda":
        tensor = tensor.pin_memory()  # of other memory, the host makes a first copy itself
    # A Mac's GPU would read memory that the host may have freed by then.
    return tensor.to(device, non_blocking=device.type != "mps")


def fetch(tree: Tree) -> Tree:
    """Copy all tensors of nested lists, tuples and dicts to the host, by one wait for the device.

    Tensors that are on the host already stay as they are.
    """
    leaves, form = tree_flatten(tree)
    away = [n for n, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and not leaf.is_cpu]
    for number, tensor in zip(away, _in_one_copy([leaves[n] for n in away]), strict=True):
        leaves[number] = tensor
    fetched: Tree = tree_unflatten(leaves, form)
    return fetched


def _in_one_copy(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of one device, of any shapes and types, on the host."""
    if not tensors:
        return []
    pieces = [tensor.contiguous().view(-1).view(torch.uint8) for tensor in tensors]
    parts = torch.split(torch.cat(pieces).cpu(), [len(piece) for piece in pieces])
    return [
        # A copy: a tensor's bytes begin at a multiple of its element size.
        part.clone().view(tensor.dtype).view(tensor.shape)
        for part, tensor in zip(parts, tensors, strict=True)
    ]
