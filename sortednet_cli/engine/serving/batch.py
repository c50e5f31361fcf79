"""Sequences that decode together with one sub-model, one token of each in a pass."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sortednet_cli.engine.generation import Greedy
from sortednet_cli.engine.generation.layers import causal_mask, mask_of
from sortednet_cli.engine.generation.models import open_stock_model
from sortednet_cli.engine.generation.positions import KnownPositions
from sortednet_cli.engine.generation.stack import Rotations, round_capacity
from sortednet_cli.engine.serving.key_values import KeyValues


@dataclass(eq=False)
class Sequence:
    """A text that is being generated.

    Attributes:
        prompt: its tokens.
        wanted: most tokens to generate.
        chooser: picks tokens.
        tokens: generated so far; each but the last was fed back to the model.
    """

    prompt: list[int]
    wanted: int
    chooser: Greedy
    tokens: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Number of tokens, prompt included."""
        return len(self.prompt) + len(self.tokens)


class Batch:
    """A sub-model and the sequences that decode with it, over a cache of their own.

    The layers are the sub-model's own, whose parameters are views of the root's: a batch holds no
    weights. A sequence's row of the cache is its place among `sequences`.

    Args:
        module: a stock causal model in eval mode.

    Attributes:
        context: number of positions that the model has.
        sequences: the sequences, in the order of their rows.

    Raises:
        RequestError: the module is no declared decoder.
    """

    def __init__(self, module: nn.Module) -> None:
        self._model = open_stock_model(module)
        self.context = self._model.context
        self._layers, self._device = self._model.stock_layers, self._model.embedding.device
        first = self._layers[0]
        self._cache = KeyValues(
            len(self._layers), first.key_heads, first.head_dim, self._model.embedding
        )
        self._tables: dict[str, Rotations] = {}
        self._reach = 0
        self.sequences: list[Sequence] = []

    @torch.inference_mode()
    def admit(self, sequence: Sequence) -> Tensor:
        """Add a sequence, and run its prompt; return the logits [V] of its first token."""
        self._make_room(len(self.sequences) + 1, len(sequence.prompt))
        row, count = len(self.sequences), len(sequence.prompt)
        positions = KnownPositions(0, count)
        states = self._model.embed(sequence.prompt, 0)
        rotations = {kind: positions.rows(table.of(count)) for kind, table in self._tables.items()}
        for index, layer in enumerate(self._layers):
            hides = 0 < layer.window < count
            mask = causal_mask(count, count, 0, 1, layer.window, states) if hides else None
            keys, values = self._cache.of(index)
            turned = rotations[layer.rotation]
            states = layer(states, turned, keys[row], values[row], positions, mask)
        logits = self._model.logits(states[-1:])[0]
        self.sequences.append(sequence)
        return logits

    @torch.inference_mode()
    def step(self) -> Tensor:
        """Feed the last token of every sequence; return the logits [B, V] of the next ones."""
        columns = [sequence.length - 1 for sequence in self.sequences]
        self._make_room(len(columns), max(columns) + 1)
        positions = torch.tensor(columns, device=self._device)
        tokens = [sequence.tokens[-1] for sequence in self.sequences]
        states = self._model.embed_at(self._model.sent(tokens), positions)
        seen = max(columns) + 1
        masks = {
            window: mask_of(positions, seen, window, states)
            for window in {layer.window for layer in self._layers}
        }
        rotations = {kind: self._turned(table, columns) for kind, table in self._tables.items()}
        for index, layer in enumerate(self._layers):
            cache = self._cache.at(index, positions, seen)
            states = layer.step(states, rotations[layer.rotation], cache, masks[layer.window])
        return self._model.logits(states)

    @torch.inference_mode()
    def remove(self, sequence: Sequence) -> None:
        """Remove a sequence; the last one takes its row. An empty batch gives its cache back."""
        row, last = self.sequences.index(sequence), self.sequences.pop()
        if last is not sequence:
            self.sequences[row] = last
            self._cache.move(len(self.sequences), row, last.length)
        if not self.sequences:
            self._cache.clear()
            self._tables = {}

    def _make_room(self, rows: int, positions: int) -> None:
        columns = self._cache.columns
        if positions > columns:
            # At least twice as many, so that texts that grow move them seldom.
            columns = round_capacity(max(positions, 2 * columns))
        self._cache.reserve(rows, min(columns, self.context), len(self.sequences))
        if not self._tables or self._cache.columns > self._reach:
            self._reach = self._cache.columns
            self._tables = {
                kind: Rotations(self._model, kind, self._reach)
                for kind in {layer.rotation for layer in self._layers}
            }

    def _turned(self, table: Rotations, columns: list[int]) -> Tensor:
        """Return the rotations of one position of each sequence, [B, ..]."""
        pairs = zip(self.sequences, columns, strict=True)
        return torch.stack([table.of(len(s.prompt))[column] for s, column in pairs])
