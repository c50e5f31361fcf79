"""One decoder layer of any architecture, computed by its stock module over a given cache."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

from torch import Tensor

from sortednet_cli.engine.generation.layers import attention_window, causal_mask
from sortednet_cli.engine.generation.positions import Positions

_CACHE_NAMES = ("cache", "past_key_values")
"""Names that versions of transformers give the argument that takes a cache."""


class Cache(Protocol):
    """Stands for a cache of transformers: one layer's keys and values."""

    def update(
        self, keys: Tensor, values: Tensor, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Store new keys and values [B, K, n, D]; return all that are seen, [B, K, t, D]."""
        ...


class StockLayer:
    """A stock layer; the caller owns its key-value cache.

    Args:
        layer: the stock layer, in eval mode.
        config: the stock configuration.
        index: the layer's number.
        by_type: whether rotary embeddings differ among types of layers.
        rotated: whether the layer takes rotary embeddings.
    """

    groups = 1

    def __init__(
        self, layer: Any, config: Any, index: int, *, by_type: bool, rotated: bool
    ) -> None:
        self._layer = layer
        heads = int(config.num_attention_heads)
        self.key_heads = int(getattr(config, "num_key_value_heads", None) or heads)
        size = getattr(config, "head_dim", None)
        self.head_dim = int(size or config.hidden_size // heads)
        self.window = attention_window(config, index)
        self.rotation = str(config.layer_types[index]) if by_type else ""
        self._rotated = rotated
        names = inspect.signature(layer.forward).parameters
        self._cache_name = next(name for name in _CACHE_NAMES if name in names)
        self._masks_itself = config._attn_implementation == "sdpa"

    def __call__(
        self,
        states: Tensor,
        rotations: Tensor,
        keys: Tensor,
        values: Tensor,
        positions: Positions,
        mask: Tensor | None,
    ) -> Tensor:
        count = len(states)
        if mask is None and count > 1 and not self._masks_itself:
            mask = causal_mask(count, count, 0, 1, self.window, states)
        cache = _Cache(keys, values, positions, self.window)
        attention_mask = None if mask is None else mask[None, None]
        return self._run(states[None], rotations[None], cache, attention_mask)[0]

    def step(self, states: Tensor, rotations: Tensor, cache: Cache, mask: Tensor) -> Tensor:
        """Run one position of each of B sequences.

        Args:
            states: [B, C].
            rotations: the model's, [B, 2, D].
            cache: stores the new keys and values [B, K, 1, D], and returns [B, K, t, D].
            mask: added to the attention scores, [B, t].
        """
        return self._run(states[:, None], rotations[:, None], cache, mask[:, None, None])[:, 0]

    def _run(self, states: Tensor, rotations: Tensor, cache: Cache, mask: Tensor | None) -> Tensor:
        """Run the stock layer on states [B, n, C], rotated by [B, n, 2, D]."""
        options: dict[str, Any] = {self._cache_name: cache}
        if self._rotated:
            options["position_embeddings"] = tuple(rotations.unbind(2))
        output = self._layer(states, attention_mask=mask, **options)
        result: Tensor = output[0] if isinstance(output, tuple) else output
        return result.reshape(states.shape)


class _Cache:
    """One layer's keys and values of one sequence."""

    def __init__(self, keys: Tensor, values: Tensor, positions: Positions, window: int) -> None:
        self._keys, self._values = keys, values
        self._positions, self._window = positions, window

    def update(
        self, keys: Tensor, values: Tensor, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Store the new keys and values [1, K, n, D]; return all that are seen, [1, K, T, D]."""
        extend = self._positions.extend
        seen_keys = extend(self._keys, keys[0], self._window)
        return seen_keys[None], extend(self._values, values[0], self._window)[None]
