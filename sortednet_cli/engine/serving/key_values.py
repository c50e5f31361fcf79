"""The key-value cache of a batch, which grows as sequences need it."""

from __future__ import annotations

import torch
from torch import Tensor


class KeyValues:
    """Keys and values of R sequences, [R, K, T, D] for each layer; at first there is room for none.

    Args:
        layers: number of layers.
        heads: number K of heads.
        size: size D of a head.
        like: a tensor of the dtype and device to take.

    Attributes:
        columns: number T of positions that each sequence has room for.
    """

    def __init__(self, layers: int, heads: int, size: int, like: Tensor) -> None:
        self._layers, self._heads, self._size, self._like = layers, heads, size, like
        self.clear()

    def clear(self) -> None:
        """Give the memory back."""
        self._tensors: list[tuple[Tensor, Tensor]] = []
        self._rows = self.columns = 0

    def of(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return a layer's keys and values, [R, K, T, D] each."""
        return self._tensors[layer]

    def at(self, layer: int, positions: Tensor, columns: int) -> LayerCache:
        """Return a layer's cache as a stock layer takes it, for one position of each sequence.

        Args:
            positions: the positions, one for each of the first rows.
            columns: how many columns they may see.
        """
        return LayerCache(*self._tensors[layer], positions, columns)

    def reserve(self, rows: int, columns: int, used: int) -> None:
        """Make room for so many rows and columns; the first `used` rows keep what they hold."""
        if rows <= self._rows and columns <= self.columns:
            return
        # Twice as many rows, so that a batch that fills up moves them seldom.
        rows = self._rows if rows <= self._rows else max(rows, 2 * self._rows)
        columns = max(columns, self.columns)
        shape = (rows, self._heads, columns, self._size)
        grown = []
        for layer in range(self._layers):
            # Zeros, as attention multiplies hidden positions by zero, and NaN would stay NaN.
            keys, values = self._like.new_zeros(shape), self._like.new_zeros(shape)
            if used:
                for new, old in zip((keys, values), self._tensors[layer], strict=True):
                    new[:used, :, : self.columns] = old[:used]
            grown.append((keys, values))
        self._tensors, self._rows, self.columns = grown, rows, columns

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one row over another."""
        for keys, values in self._tensors:
            keys[target, :, :length] = keys[source, :, :length]
            values[target, :, :length] = values[source, :, :length]


class LayerCache:
    """Stands for a cache of transformers: one layer's keys and values of B sequences."""

    def __init__(self, keys: Tensor, values: Tensor, positions: Tensor, columns: int) -> None:
        self._keys, self._values = keys, values
        self._positions, self._columns = positions, columns
        self._rows = torch.arange(len(positions), device=positions.device)

    def update(
        self, keys: Tensor, values: Tensor, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Store new keys and values [B, K, 1, D]; return all that may be seen, [B, K, t, D]."""
        for cache, new in ((self._keys, keys), (self._values, values)):
            cache[self._rows, :, self._positions] = new[:, :, 0]
        count = len(self._rows)
        return self._keys[:count, :, : self._columns], self._values[:count, :, : self._columns]
