"""Passes of one position through compiled layers, and the logits after them.

Between a layer's products lie some twenty small operations, which take as long to be started as to
be done. Compiled, they are three or four.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from sortednet_cli.engine.generation.positions import LastPosition
from sortednet_cli.machine.compiler import compiled, compiling

if TYPE_CHECKING:
    from sortednet_cli.engine.generation.layers import FusedLayer
    from sortednet_cli.engine.generation.products import Product

_GROUP = 5
"""Layers that are compiled as one. More would save little time, and take longer to compile. What
remains of a range runs layer by layer, so that drafts of any depth need no further compilation."""

_FAILED = ("--compile", "generate without it")

Seen = tuple[Tensor, Tensor]
"""A layer's keys and values [K, t, D] up to the position, whose own are not written yet."""


class CompiledLayers:
    """Runs one position through layers of the same shapes, which share their compilation."""

    def __init__(self) -> None:
        self._run = compiled(_run, fullgraph=True)
        self._multiply = compiled(_multiply, fullgraph=True)
        self._known: set[int] = set()

    def __call__(
        self,
        layers: Sequence[FusedLayer],
        states: Tensor,
        rotations: Tensor,
        seen: Sequence[Seen],
    ) -> Tensor:
        """Run the layers, and write keys and values.

        Args:
            states: [1, C].
            rotations: as real numbers [1, 1, D / 2, 2].
            seen: of each layer.

        Returns:
            The states after the layers, [1, C].

        Raises:
            WorkError: the compiler fails.
        """
        start = 0
        with compiling(*_FAILED):
            while start < len(layers):
                size = _GROUP if start + _GROUP <= len(layers) else 1
                group = slice(start, start + size)
                self._prepare(seen[group])
                states = self._run(layers[group], states, rotations, seen[group])
                start += size
        return states

    def logits(self, head: Product, states: Tensor) -> Tensor:
        """Compute logits [1, V] of states [1, C] that are normed.

        Raises:
            WorkError: the compiler fails.
        """
        with compiling(*_FAILED):
            return cast(Tensor, self._multiply(head, states))

    def _prepare(self, seen: Sequence[Seen]) -> None:
        """Let one compilation serve all lengths, where the compiler would begin with this one."""
        if len(seen) in self._known:
            return
        for tensor in (part for pair in seen for part in pair):
            torch._dynamo.maybe_mark_dynamic(tensor, 1)
        self._known.add(len(seen))


def _run(
    layers: Sequence[FusedLayer], states: Tensor, rotations: Tensor, seen: Sequence[Seen]
) -> Tensor:
    position = LastPosition()
    for layer, (keys, values) in zip(layers, seen, strict=True):
        states = layer(states, rotations, keys, values, position, None)
    return states


def _multiply(head: Product, states: Tensor) -> Tensor:
    return head(states)
