"""Causal models as a decoder runs them: embedding, layers over a given cache, and head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sortednet_cli.engine.generation.compiled import CompiledLayers
from sortednet_cli.engine.generation.layers import FusedLayer
from sortednet_cli.engine.generation.positions import Positions
from sortednet_cli.engine.generation.products import Product, choose_ways
from sortednet_cli.engine.generation.stock_layer import StockLayer
from sortednet_cli.errors import RequestError, listed
from sortednet_cli.families.transformers.architecture import Architecture, Head
from sortednet_cli.machine.transfer import send
from sortednet_cli.spec.families import (
    CAUSAL_TASKS,
    family_facts,
    family_names,
    is_family,
    own_families,
)

_FUSED = ("LlamaForCausalLM", "Qwen2ForCausalLM", "MistralForCausalLM")
"""Classes whose layers `FusedLayer` computes. Others with the same parts use them differently."""


_HEAD_ROWS = 16
"""Most positions whose logits are timed: of a prompt only the last has any."""


class Layer(Protocol):
    """One layer, which writes its keys and values to a cache that the caller owns.

    Attributes:
        key_heads, head_dim: number and size of the heads of its keys and values.
        groups: rows of its masks for each position.
        window: its attention window, its own position included; 0 means all positions.
        rotation: the type of rotary embedding that it takes, if they differ among layers.
    """

    key_heads: int
    head_dim: int
    groups: int
    window: int
    rotation: str

    def __call__(
        self,
        states: Tensor,
        rotations: Tensor,
        keys: Tensor,
        values: Tensor,
        positions: Positions,
        mask: Tensor | None,
    ) -> Tensor:
        """Run n positions, and write their keys and values to the cache.

        Args:
            states: [n, C].
            rotations: the model's, of these positions.
            keys, values: the layer's cache [K, T, D], filled up to the first of the positions.
            positions: the positions.
            mask: added to the attention scores, [n * groups, t] if the positions attend to t; rows
                are ordered by position, then by head within a group. None hides nothing from one
                position, and is a causal mask from position 0 for more.

        Returns:
            The states after the layer, [n, C].
        """
        ...


class CausalModel(ABC):
    """A stock causal model in eval mode.

    Attributes:
        layers: its layers.
        context: number of positions that it has.
        embedding: the weight of its embedding [V, C].
        dtype: of its states and of the cache.
        compiled: passes of one position through its layers, compiled; None if they are not.
    """

    layers: list[Layer]
    compiled: CompiledLayers | None = None

    def __init__(self, module: nn.Module, architecture: Architecture) -> None:
        model: Any = module
        self._config = model.config
        self._rotary: Any = getattr(module.get_submodule(architecture.base), "rotary_emb", None)
        self.context = int(model.config.max_position_embeddings)
        self.embedding: Tensor = model.get_input_embeddings().weight.detach()
        self.dtype = self.embedding.dtype

    @abstractmethod
    def embed(self, tokens: Sequence[int] | Tensor, first: int) -> Tensor:
        """Compute the states [n, C] of tokens at positions from `first` on.

        Args:
            tokens: n tokens; a tensor may be on the device.
        """

    @abstractmethod
    def logits(self, states: Tensor) -> Tensor:
        """Compute logits [n, V] of states [n, C]."""

    def logits_of(self, tokens: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Return what computes logits [n, k] of k tokens alone from states [n, C].

        Args:
            tokens: int64 [k], on the model's device.

        Returns:
            None if the head computes all tokens at once.
        """
        return None

    @abstractmethod
    def packed(self, cosines: Tensor, sines: Tensor) -> Tensor:
        """Pack the stock module's cosines and sines [T, D] into one tensor [T, ..]."""

    def sent(self, tokens: Sequence[int] | Tensor) -> Tensor:
        """Send tokens to the device, int64 [n]."""
        return send(torch.as_tensor(tokens), self.embedding.device)

    def rotations(self, kind: str, first: int, last: int) -> Tensor:
        """Compute rotations [T, ..] of positions `first` to `last`, for layers of one kind."""
        positions = torch.arange(first, last, device=self.embedding.device)[None]
        if self._rotary is None:
            return positions[0]
        like = self.embedding.new_zeros(1, dtype=torch.float32)
        cosines, sines = self._rotary(like, positions, *([kind] if kind else []))
        return self.packed(cosines[0], sines[0])

    def num_short(self, kind: str) -> int | None:
        """Return the number of positions with LongRoPE's short-context frequencies, if not all."""
        if self._rotary is None:
            return None
        rope = self._config.rope_parameters
        rope = rope[kind] if kind else rope
        if rope["rope_type"] != "longrope":
            return None
        return int(rope["original_max_position_embeddings"])


class FusedModel(CausalModel):
    """A model whose layers are computed by `FusedLayer`.

    It keeps no reference to the stock module, whose copied weights are freed with the module. On a
    CPU states are float32 even if weights are of half the size: reading those is what takes long.
    """

    def __init__(self, module: nn.Module, architecture: Architecture, *, compiles: bool) -> None:
        super().__init__(module, architecture)
        model: Any = module
        base: Any = module.get_submodule(architecture.base)
        is_half = self.embedding.is_cpu and self.embedding.dtype in (torch.float16, torch.bfloat16)
        self.dtype = torch.float32 if is_half else self.embedding.dtype
        # A compiler cannot use packed weights.
        layers = [
            FusedLayer(layer, self._config, index, self.dtype, pack=not compiles)
            for index, layer in enumerate(base.layers)
        ]
        self.compiled = CompiledLayers() if compiles else None
        self._norm = base.norm.weight.detach().to(self.dtype)
        self._epsilon = float(base.norm.variance_epsilon)
        self._head = model.lm_head.weight.detach()
        self._bias = None if model.lm_head.bias is None else model.lm_head.bias.detach()
        self._product = Product(self._head, self._bias, pack=not compiles)
        self._several: Product | None = None
        choose_ways([layer.products for layer in layers])
        choose_ways([[self._product]], most=_HEAD_ROWS)
        self.layers = [*layers]

    def embed(self, tokens: Sequence[int] | Tensor, first: int) -> Tensor:
        if len(tokens) == 1 and not isinstance(tokens, Tensor):
            return self.embedding[tokens[0]][None].to(self.dtype)
        return self.embedding.index_select(0, self.sent(tokens)).to(self.dtype)

    def logits(self, states: Tensor) -> Tensor:
        states = self._normed(states)
        if self.compiled is not None and len(states) == 1 and self._product.is_half:
            return self.compiled.logits(self._product, states)
        return self._product_for(len(states))(states).float()

    def _product_for(self, count: int) -> Product:
        if count < self._product.packs_from:
            return self._product
        if self._several is None:
            self._several = self._product.with_copy()
        return self._several

    def _normed(self, states: Tensor) -> Tensor:
        return F.rms_norm(states, tuple(self._norm.shape), self._norm, self._epsilon)

    def logits_of(self, tokens: Tensor) -> Callable[[Tensor], Tensor]:
        head, bias = self._head[tokens], None if self._bias is None else self._bias[tokens]
        product = Product(head, bias, pack=True)
        product.ways = self._product.ways
        return lambda states: product(self._normed(states)).float()

    def packed(self, cosines: Tensor, sines: Tensor) -> Tensor:
        """Pack them as complex numbers [T, 1, D / 2]."""
        half = cosines.shape[-1] // 2
        return torch.complex(cosines[:, :half], sines[:, :half])[:, None]


class StockModel(CausalModel):
    """A model of any declared architecture, computed by its own layers.

    Attributes:
        stock_layers: the same as `layers`.
    """

    def __init__(self, module: nn.Module, architecture: Architecture, head: Head) -> None:
        super().__init__(module, architecture)
        self._module = module
        self._tail, self._embed = head.tail, architecture.embed
        layers = cast(nn.ModuleList, module.get_submodule(architecture.layers))
        by_type = isinstance(getattr(self._rotary, "rope_type", None), dict)
        self.stock_layers = [
            StockLayer(layer, self._config, index, by_type=by_type, rotated=bool(self._rotary))
            for index, layer in enumerate(layers)
        ]
        self.layers = [*self.stock_layers]

    def embed(self, tokens: Sequence[int] | Tensor, first: int) -> Tensor:
        ids = self.sent(tokens)
        return self.embed_at(ids, torch.arange(first, first + len(ids), device=ids.device))

    def embed_at(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Compute the states [n, C] of tokens [n] at any positions [n]."""
        assert self._embed is not None
        return cast(Tensor, self._embed(self._module, tokens, positions))

    def logits(self, states: Tensor) -> Tensor:
        return cast(Tensor, self._tail(self._module, states)).float()

    def packed(self, cosines: Tensor, sines: Tensor) -> Tensor:
        """Pack them as [T, 2, D], in the type that the layers compute in."""
        return torch.stack([cosines, sines], 1).to(self.embedding.dtype)


def open_model(module: nn.Module, *, compiles: bool = False) -> CausalModel:
    """Prepare a stock model for decoding, with the fastest layers for it.

    Args:
        compiles: whether passes of one position are compiled.

    Raises:
        RequestError: its class is not that of a declared decoder, or nothing compiles it.
    """
    architecture, head = _declared(module)
    name = type(module).__name__
    if compiles and not (name in _FUSED and next(module.parameters()).is_cpu):
        raise RequestError(f"--compile is for {listed(_FUSED)} on a CPU: generate without it")
    if name in _FUSED:
        return FusedModel(module, architecture, compiles=compiles)
    return StockModel(module, architecture, head)


def open_stock_model(module: nn.Module) -> StockModel:
    """Prepare a stock model for decoding by its own layers, which copies no weights.

    Raises:
        RequestError: its class is not that of a declared decoder.
    """
    return StockModel(module, *_declared(module))


def _declared(module: nn.Module) -> tuple[Architecture, Head]:
    """Return what is declared of a model's class; RequestError if it is no declared decoder."""
    name, config = type(module).__name__, getattr(module, "config", None)
    model_type = getattr(config, "model_type", None)
    if is_family(model_type):
        architecture = family_facts(str(model_type))
        if isinstance(architecture, Architecture) and architecture.embed is not None:
            for task in CAUSAL_TASKS:
                head = architecture.heads.get(task)
                if head is not None and head.class_name == name:
                    return architecture, head
    raise RequestError(
        f"generation is for decoders of the families {listed(_decoders())}, not {name}: extract the"
        " sub-model, and call transformers' own generate()"
    )


def _decoders() -> list[str]:
    own = own_families()
    return [
        name
        for name in family_names()
        if isinstance(facts := own.get(name), Architecture) and facts.embed is not None
    ]
