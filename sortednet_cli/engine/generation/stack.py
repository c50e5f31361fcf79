"""The layers of a causal model over one key-value cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import cast

import torch
from torch import Tensor, nn

from sortednet_cli.engine.generation.compiled import CompiledLayers
from sortednet_cli.engine.generation.layers import FusedLayer, causal_mask
from sortednet_cli.engine.generation.models import CausalModel, open_model
from sortednet_cli.engine.generation.positions import DevicePositions, KnownPositions, Positions
from sortednet_cli.errors import RequestError
from sortednet_cli.machine.cuda_graphs import GraphChoice, open_graphs
from sortednet_cli.machine.device import wait_for

_CAPACITY_STEP = 64

_MASK_ROWS = 32
"""Most positions of a pass whose mask is cut out of a stored one, or that is recorded."""

_ALIGNMENT = 8
"""Rows of a mask start at multiples of this many elements, as GPU kernels require."""

_COLUMNS = 256
"""A recorded pass attends to a multiple of this many positions; those after its own are hidden."""


def round_capacity(positions: int) -> int:
    """Round a cache's number of positions up, so that texts that grow seldom reallocate it."""
    return -(-positions // _CAPACITY_STEP) * _CAPACITY_STEP


class Stack:
    """A sequence of positions, each processed by some first layers of the model.

    A layer has processed at most the positions that the layer before it has, so `seen` never
    rises with depth. A position therefore needs only one state: that after the last layer it went
    through. When a deeper layer is needed, it catches up on all missing positions in one pass.
    Early exit and drafting both rely on this.

    On a CUDA device, passes after the prompt are recorded as CUDA graphs. They compute the same
    before they are recorded, and if they cannot be: a position's logits do not depend on that.

    Args:
        model: a stock causal model of a declared architecture, in eval mode; or as `open_model`
            prepared it, so that several stacks share its weights.
        capacity: least number of positions that the cache has room for.
        cuda_graphs: whether passes are recorded; "auto" where that can be done.
        frequent: the tokens that drafts choose from, if the head can be cut; none for all.

    Attributes:
        depth: number of layers.
        capacity: number of positions that the cache has room for.
        device: where it runs.
        asynchronous: whether a look at a value waits for the device, which runs behind the host.
        length: number of positions.
        seen: number of positions that each layer has processed.

    Raises:
        RequestError: the model is no such one, `capacity` exceeds its context, or passes cannot
            be recorded but must be.
    """

    def __init__(
        self,
        model: nn.Module | CausalModel,
        capacity: int,
        cuda_graphs: GraphChoice = "auto",
        frequent: Sequence[int] = (),
    ) -> None:
        self._model = model if isinstance(model, CausalModel) else open_model(model)
        self._drafted = self._model.sent(frequent)
        self._draft_head = self._model.logits_of(self._drafted) if frequent else None
        self.context = self._model.context
        if not 0 < capacity <= self.context:
            raise RequestError(f"the model has {self.context} positions, not {capacity}")
        self.layers = self._model.layers
        self.depth = len(self.layers)
        like, first = self._model.embedding.new_empty(0, dtype=self._model.dtype), self.layers[0]
        self._graphs = open_graphs(cuda_graphs, like.device, "--cuda-graphs true")
        if self._graphs is not None:
            capacity = self._num_columns(capacity)
        self.capacity = capacity
        self._numbers = torch.arange(capacity, device=like.device)
        self._groups = first.groups
        shape = (first.key_heads, capacity, first.head_dim)
        # Zeros instead of empty: attention multiplies masked positions by zero, and NaN stays NaN.
        # Of each layer by itself: a compiler takes views that begin elsewhere for another kind.
        self._keys = [like.new_zeros(shape) for _ in self.layers]
        self._values = [like.new_zeros(shape) for _ in self.layers]
        self._states = like.new_zeros(capacity, self._model.embedding.shape[1])
        self.device = like.device
        self.asynchronous = not like.is_cpu
        self._tables = {
            kind: Rotations(self._model, kind, capacity)
            for kind in {layer.rotation for layer in self.layers}
        }
        self._windows = {layer.window for layer in self.layers}
        self._masks = self._shared_masks()
        self.length = 0
        self.seen = [0] * self.depth

    def push(self, tokens: Sequence[int] | Tensor) -> None:
        """Append positions that no layer has processed yet; tokens may be on the device, [n]."""
        last = self.length + len(tokens)
        if not self.length:  # the prompt's length decides LongRoPE's frequencies
            for table in self._tables.values():
                table.choose(last)
        self._states[self.length : last] = self._model.embed(tokens, self.length)
        self.length = last

    def advance(self, depth: int) -> None:
        """Run every position through the first `depth` layers."""
        # Layers that have seen as many positions run as one, from the fullest to the emptiest.
        for first, group in groupby(range(depth), self.seen.__getitem__):
            layers = list(group)
            if first < self.length:
                self._catch_up(range(layers[0], layers[-1] + 1), first)
                self.seen[layers[0] : layers[-1] + 1] = [self.length] * len(layers)

    def logits(self, count: int) -> Tensor:
        """Compute logits [count, V] of the last positions, at the depth that they have reached."""
        first = self.length - count
        if self._graphs is None or count > _MASK_ROWS:
            return self._model.logits(self._states[first : self.length])
        work = partial(self._logits_of, count)
        return self._graphs.run(("logits", count), work, self._numbers[first : first + 1])[0]

    def draft_logits(self) -> Tensor:
        """Compute logits [V] of the last position; minus infinity for what no draft chooses."""
        if self._draft_head is None:
            return self.logits(1)[0]
        if self._graphs is None:
            return self._spread(self._states[self.length - 1 : self.length])
        last = self._numbers[self.length - 1 : self.length]
        return self._graphs.run(("draft",), self._draft_logits_of, last)[0]

    def wait(self) -> None:
        """Wait until the device has finished, since a GPU runs asynchronously."""
        wait_for(self._states.device)

    def truncate(self, length: int) -> None:
        """Drop all positions from `length` on."""
        self.length = min(self.length, length)
        self.seen = [min(seen, length) for seen in self.seen]

    def _catch_up(self, layers: range, first: int) -> None:
        """Run some layers on all positions from `first` on."""
        last, count = self.length, self.length - first
        # A prompt of any length would be a recording of its own.
        if self._model.compiled is not None and first and count == 1:
            self._run_compiled(self._model.compiled, layers)
            return
        if self._graphs is None or not first or count > _MASK_ROWS:
            masks = {window: self._mask(window, first, last) for window in self._windows}
            self._run(layers, KnownPositions(first, last), masks)
            return
        columns = self._num_columns(last)
        tables = tuple(table.is_long for table in self._tables.values())
        key = (layers, count, columns, tables)
        work = partial(self._run_at, layers, count, columns)
        self._graphs.run(key, work, self._numbers[first : first + 1])

    def _run(self, layers: range, positions: Positions, masks: Mapping[int, Tensor | None]) -> None:
        """Run some layers on some positions, with the mask of each window."""
        rotations = {kind: positions.rows(table.chosen) for kind, table in self._tables.items()}
        states = positions.rows(self._states)
        for index in layers:
            layer = self.layers[index]
            states = layer(
                states,
                rotations[layer.rotation],
                self._keys[index],
                self._values[index],
                positions,
                masks[layer.window],
            )
        positions.write(self._states, states)

    def _run_compiled(self, compiled: CompiledLayers, layers: range) -> None:
        """Run some layers on the last position."""
        position = KnownPositions(self.length - 1, self.length)
        # A clone is a tensor like those that the layers return, so that all compile alike.
        states = position.rows(self._states).clone()
        rotations = torch.view_as_real(position.rows(self._tables[""].chosen))
        seen = [
            (self._keys[index][:, : self.length], self._values[index][:, : self.length])
            for index in layers
        ]
        chosen = cast("list[FusedLayer]", self.layers[layers.start : layers.stop])
        position.write(self._states, compiled(chosen, states, rotations, seen))

    def _run_at(self, layers: range, count: int, columns: int, first: Tensor) -> list[Tensor]:
        """Run some layers on `count` positions from one on, [1], that the device knows."""
        aligned = -(-columns // _ALIGNMENT) * _ALIGNMENT
        masks = {
            window: causal_mask(count, aligned, first, self._groups, window, self._states)
            for window in self._windows
        }
        seen = {window: mask[:, :columns] for window, mask in masks.items()}
        self._run(layers, DevicePositions(first, count, columns), seen)
        return []

    def _logits_of(self, count: int, first: Tensor) -> list[Tensor]:
        """Compute logits of `count` positions from one on, [1], that the device knows."""
        states = DevicePositions(first, count, self.capacity).rows(self._states)
        return [self._model.logits(states)]

    def _draft_logits_of(self, last: Tensor) -> list[Tensor]:
        """Compute draft logits [V] of one position, [1], that the device knows."""
        return [self._spread(DevicePositions(last, 1, self.capacity).rows(self._states))]

    def _spread(self, states: Tensor) -> Tensor:
        """Compute draft logits [V] of one position's states [1, C]."""
        assert self._draft_head is not None
        logits = self._draft_head(states)[0]
        return logits.new_full((len(self._model.embedding),), -torch.inf).index_copy(
            0, self._drafted, logits
        )

    def _num_columns(self, length: int) -> int:
        """Return to how many positions a recorded pass attends that ends at `length`."""
        return min(self.context, -(-length // _COLUMNS) * _COLUMNS)

    def _shared_masks(self) -> dict[int, Tensor]:
        """Make one mask for each attention window; `_mask` returns slices of them."""
        rows = _MASK_ROWS + _ALIGNMENT - 1
        columns = -(-(self.capacity + rows) // _ALIGNMENT) * _ALIGNMENT
        return {
            window: causal_mask(rows, columns, self.capacity, self._groups, window, self._states)
            for window in self._windows
        }

    def _mask(self, window: int, first: int, last: int) -> Tensor | None:
        """Return a mask of some positions: a slice of a stored one if that has enough rows."""
        rows = last - first
        if rows == 1 or (first == 0 and not 0 < window < last):
            return None
        if rows > _MASK_ROWS:
            return causal_mask(rows, last, first, self._groups, window, self._states)
        # Each row of the stored mask is the one above it, shifted right by one column. So the
        # mask for `first` starts at any row, and `down` is chosen to align its first column.
        right = self.capacity - first
        down = -right % _ALIGNMENT
        right += down
        return self._masks[window][
            down * self._groups : (down + rows) * self._groups, right : right + last
        ]


class Rotations:
    """The rotary embeddings of layers of one kind, for every position of a cache.

    LongRoPE has other frequencies for long prompts. Positions beyond a short one's context are
    rotated by them too, as the stock module does when it gets there.

    Attributes:
        is_long: whether the prompt at hand is long.
    """

    def __init__(self, model: CausalModel, kind: str, capacity: int) -> None:
        short = model.num_short(kind)
        self._num_short = capacity if short is None else min(capacity, short)
        self._long = model.rotations(kind, 0, capacity)
        self._short = self._long
        if self._num_short < capacity:
            parts = (0, self._num_short), (self._num_short, capacity)
            self._short = torch.cat([model.rotations(kind, *part) for part in parts])
        self.is_long = False

    @property
    def chosen(self) -> Tensor:
        """The table of the prompt at hand, [T, ..]."""
        return self._long if self.is_long else self._short

    def choose(self, length: int) -> None:
        """Choose the table for a prompt of `length` tokens."""
        self.is_long = length > self._num_short

    def of(self, length: int) -> Tensor:
        """Return the table for a prompt of `length` tokens, [T, ..]."""
        return self._long if length > self._num_short else self._short
