"""Count the bytes of live tensor storages, of real or fake tensors."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that operations allocate while it is entered.

    Args:
        weights: existing tensors, which are not counted.

    Attributes:
        peak: the most bytes alive at once.
        casts: bytes at that peak of weights cast to another dtype, which autocast caches.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self.casts = 0
        self._weights = {_key(tensor): tensor for tensor in weights}
        self._alive: dict[int, tuple[int, bool]] = {}
        self._now = [0, 0]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        results = func(*args, **(kwargs or {}))
        is_cast = func is torch.ops.aten._to_copy.default and _key(args[0]) in self._weights
        for result in tree_leaves(results):
            if isinstance(result, Tensor):
                self._note(result.untyped_storage(), is_cast)
        return results

    def _note(self, storage: torch.UntypedStorage, is_cast: bool) -> None:
        key = storage._cdata
        if key in self._weights or key in self._alive:
            return
        self._alive[key] = (storage.nbytes(), is_cast)
        self._add(storage.nbytes(), is_cast)
        if self._now[0] > self.peak:
            self.peak, self.casts = self._now
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        size, is_cast = self._alive.pop(key)
        self._add(-size, is_cast)

    def _add(self, size: int, is_cast: bool) -> None:
        self._now[0] += size
        self._now[1] += size * is_cast


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Total size of the storages of tensors; shared ones count once."""
    sizes = {_key(tensor): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(sizes.values())
