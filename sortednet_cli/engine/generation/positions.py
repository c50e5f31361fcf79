"""The positions of a pass: which rows of tables and caches it reads and writes."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Positions(ABC):
    """Positions of a sequence that follow each other.

    Attributes:
        follow: whether there are positions before them; a prompt has none.
    """

    follow: bool

    @abstractmethod
    def rows(self, table: Tensor) -> Tensor:
        """Read the rows [n, ..] of these positions in a table [T, ..]."""

    @abstractmethod
    def write(self, table: Tensor, rows: Tensor) -> None:
        """Write the rows [n, ..] of these positions to a table [T, ..]."""

    @abstractmethod
    def extend(self, cache: Tensor, new: Tensor, window: int) -> Tensor:
        """Write the keys or values [K, n, D] of these positions to a layer's cache [K, T, D].

        Args:
            window: the layer's attention window; 0 means all positions.

        Returns:
            What these positions attend to, [K, t, D]; a mask hides what they do not see of it.
        """


class KnownPositions(Positions):
    """Positions `first` to `last`, whose numbers the host knows: views serve."""

    def __init__(self, first: int, last: int) -> None:
        self.follow = first > 0
        self._range = slice(first, last)
        self._first, self._last = first, last

    def rows(self, table: Tensor) -> Tensor:
        return table[self._range]

    def write(self, table: Tensor, rows: Tensor) -> None:
        table[self._range] = rows

    def extend(self, cache: Tensor, new: Tensor, window: int) -> Tensor:
        cache[:, self._range] = new
        is_single = self._last - self._first == 1
        start = max(0, self._last - window) if window and is_single else 0
        return cache[:, start : self._last]


class DevicePositions(Positions):
    """Positions whose numbers only the device knows, so that one recording serves any of them.

    Args:
        first: the first position, int64 [1].
        count: how many there are.
        columns: how much of a cache they attend to; the last position lies below it.
    """

    def __init__(self, first: Tensor, count: int, columns: int) -> None:
        self.follow = True
        self._numbers = first + torch.arange(count, device=first.device)
        self._columns = columns

    def rows(self, table: Tensor) -> Tensor:
        return table.index_select(0, self._numbers)

    def write(self, table: Tensor, rows: Tensor) -> None:
        table.index_copy_(0, self._numbers, rows)

    def extend(self, cache: Tensor, new: Tensor, window: int) -> Tensor:
        cache.index_copy_(1, self._numbers, new)
        return cache[:, : self._columns]


class LastPosition(Positions):
    """The last position of tables and caches that end with it."""

    follow = True

    def rows(self, table: Tensor) -> Tensor:
        return table[-1:]

    def write(self, table: Tensor, rows: Tensor) -> None:
        table[-1:] = rows

    def extend(self, cache: Tensor, new: Tensor, window: int) -> Tensor:
        cache[:, -1:] = new
        return cache[:, -window:] if window else cache
