"""Slices: which entries of a larger tensor each tensor of a sub-model is.

Knows tensors and their dimensions; neither modules, families, nor files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import torch
from torch import Tensor

Segment = tuple[int, int]
"""The first entry along a dimension, and the one after the last."""

Segments = tuple[Segment, ...]


@dataclass(frozen=True)
class TensorSlice:
    """A slice of the tensor `source`: along each dimension, the entries of its segments.

    A dimension has one segment, which starts at 0, unless the tensor is fused: then it has one for
    each part, such as the first rows of the query, of the key and of the value.
    """

    source: str
    segments: tuple[Segments, ...]

    @classmethod
    def leading(cls, source: str, shape: Iterable[int]) -> TensorSlice:
        """The first `shape[i]` entries of each dimension i."""
        return cls(source, tuple(((0, size),) for size in shape))

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return tuple(map(num_entries, self.segments))

    @cached_property
    def fused(self) -> tuple[int, ...]:
        """The dimensions that have several segments."""
        return tuple(dim for dim, parts in enumerate(self.segments) if len(parts) > 1)

    def views(self, tensor: Tensor) -> list[Tensor]:
        """Cut the slice out of a tensor as few views, without a copy.

        Parts of equal sizes are one view with a dimension more: [3 * D, C] to [3, d, c] for d of
        D rows. Otherwise each part is a view.

        Args:
            tensor: of the shape of the source.
        """
        if not self._has_equal_parts(tensor.shape):
            indices = product(*([slice(*s) for s in parts] for parts in self.segments))
            return [tensor[index] for index in indices]
        index: list[slice] = []
        for dim, parts in enumerate(self.segments):
            index += [slice(None)] if dim in self.fused else []
            index.append(slice(parts[0][1]))
        for dim in reversed(self.fused):
            tensor = tensor.unflatten(dim, (len(self.segments[dim]), -1))  # type: ignore[no-untyped-call]
        return [tensor[tuple(index)]]

    def joined(self, views: Sequence[Tensor]) -> Tensor:
        """Make the sub-model's tensor of `views`; if it is fused, this copies them."""
        if len(views) == 1:
            (tensor,) = views
            for dim in self.fused:
                tensor = tensor.flatten(dim, dim + 1)
            return tensor
        tensors = list(views)
        for dim in reversed(self.fused):
            count = len(self.segments[dim])
            groups = (tensors[i : i + count] for i in range(0, len(tensors), count))
            tensors = [torch.cat(group, dim) for group in groups]
        return tensors[0]

    def of(self, tensor: Tensor) -> Tensor:
        """Cut the slice out of a tensor: a view, or a copy if it is fused."""
        return self.joined(self.views(tensor))

    def mask(self, shape: Sequence[int]) -> Tensor:
        """Mark the entries of a tensor of `shape` that lie in the slice."""
        mask = torch.zeros(tuple(shape), dtype=torch.bool)
        for view in self.views(mask):
            view.fill_(True)
        return mask

    def then(self, inner: TensorSlice) -> TensorSlice:
        """Compose two slices: if this one cuts B out of A and `inner` C of B, cut C of A."""
        pairs = zip(self.segments, inner.segments, strict=True)
        return TensorSlice(self.source, tuple(_map(own, _placed(outer)) for outer, own in pairs))

    def within(self, outer: TensorSlice, name: str) -> TensorSlice | None:
        """Return this slice of A as a slice of B, which `outer` cuts out of A, if B holds it.

        Args:
            name: the name of B.
        """
        if len(self.segments) != len(outer.segments):
            return None
        found = []
        for own, there in zip(self.segments, outer.segments, strict=True):
            mapped = _map(own, [(start, to, size) for to, start, size in _placed(there)])
            if num_entries(mapped) < num_entries(own):
                return None
            found.append(mapped)
        return TensorSlice(name, tuple(found))

    def _has_equal_parts(self, shape: Sequence[int]) -> bool:
        """Whether every fused dimension consists of parts of one size, cut to one size."""
        for dim in self.fused:
            parts = self.segments[dim]
            step, uneven = divmod(shape[dim], len(parts))
            size = parts[0][1]
            if uneven or any(p != (i * step, i * step + size) for i, p in enumerate(parts)):
                return False
        return True

    def described(self) -> tuple[Any, ...]:
        """Describe it in JSON values: source and shape, and the segments of a fused tensor."""
        return (self.source, self.shape, *([self.segments] if self.fused else []))

    def __str__(self) -> str:
        dims = ("|".join(f"{a or ''}:{b}" for a, b in parts) for parts in self.segments)
        return f"{self.source}[{', '.join(dims)}]"


def merged(segments: Iterable[Segment]) -> Segments:
    """Join segments that follow one another without a gap."""
    result: list[Segment] = []
    for start, stop in segments:
        follows = bool(result) and result[-1][1] == start
        result.append((result.pop()[0] if follows else start, stop))
    return tuple(result)


def entries(segments: Segments, size: int) -> Tensor:
    """Mark which of `size` entries lie in segments."""
    mask = torch.zeros(size, dtype=torch.bool)
    for start, stop in segments:
        mask[start:stop] = True
    return mask


def num_entries(segments: Segments) -> int:
    """Count the entries of segments."""
    return sum(stop - start for start, stop in segments)


_Run = tuple[int, int, int]
"""Where entries start, where they start elsewhere, and how many they are."""


def _placed(segments: Segments) -> list[_Run]:
    """Where the entries of segments lie in their concatenation, and in the larger tensor."""
    runs, at = [], 0
    for start, stop in segments:
        runs.append((at, start, stop - start))
        at += stop - start
    return runs


def _map(segments: Segments, runs: Sequence[_Run]) -> Segments:
    """Map segments through runs of entries; entries that lie in no run are left out."""
    found = []
    for start, stop in segments:
        for at, to, size in runs:
            low, high = max(start, at), min(stop, at + size)
            if low < high:
                found.append((low - at + to, high - at + to))
    return merged(found)
