"""One pass that serves every depth of a stock transformer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import cast

from torch import Tensor, nn

from sortednet_cli.families.shared import Inputs, SharedPass
from sortednet_cli.families.transformers.architecture import Architecture, Head
from sortednet_cli.families.transformers.causal_mask import without_mask
from sortednet_cli.families.transformers.looks import without_looks


def named_inputs(inputs: Inputs) -> Mapping[str, Tensor]:
    """Name the arguments of a stock module; a tensor holds images."""
    return {"pixel_values": inputs} if isinstance(inputs, Tensor) else inputs


class PrefixPass(SharedPass):
    """Runs all layers of one stock transformer, and keeps the state at every exit.

    Args:
        module: the deepest sub-model's module.
        depths: numbers of layers of the sub-models; the first is the module's own.
        architecture: the layout of the module.
        head: pools states and computes logits from them.
    """

    def __init__(
        self, module: nn.Module, depths: Sequence[int], architecture: Architecture, head: Head
    ) -> None:
        self.modules = [module]
        self._depths = depths
        self._architecture = architecture
        self._head = head
        self._skipped: Collection[int] = ()

    def skip(self, layers: Collection[int]) -> None:
        self._skipped = layers

    def states(self, inputs: Inputs) -> list[Tensor]:
        (module,) = self.modules
        layers = cast(nn.ModuleList, module.get_submodule(self._architecture.layers))
        named = named_inputs(inputs)
        states: dict[int, Tensor] = {}
        base = module.get_submodule(self._architecture.base)
        with (
            _skipping(layers, self._skipped),
            _keeping(layers, self._depths, states),
            without_looks(base),
            without_mask(base, named),
        ):
            base(**named, use_cache=False)
        if (pool := self._head.pool) is None:
            return [states[depth] for depth in self._depths]
        # Copies, as they are small: FSDP warns of views, whose hooks an operation in place loses.
        pooled = {depth: pool(module, named, states[depth]).clone() for depth in states}
        return [pooled[depth] for depth in self._depths]

    def logits(self, number: int, states: Tensor) -> Tensor:
        return cast(Tensor, self._head.tail(self.modules[0], states))


class _Skipped(nn.Module):
    """Stands for a layer that is skipped: returns the states as they came.

    Args:
        layer: the layer, whose kind of attention the stock model asks for before it calls it.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.attention_type = getattr(layer, "attention_type", None)

    def forward(self, states: Tensor, *_: object, **__: object) -> Tensor:
        return states


@contextmanager
def _skipping(layers: nn.ModuleList, numbers: Collection[int]) -> Iterator[None]:
    """Skip layers inside. The others keep their places, by which stock models choose masks."""
    skipped = {number: layers[number] for number in numbers if number < len(layers)}
    for number, layer in skipped.items():
        layers[number] = _Skipped(layer)
    try:
        yield
    finally:
        for number, layer in skipped.items():
            layers[number] = layer


@contextmanager
def _keeping(
    layers: nn.ModuleList, depths: Sequence[int], states: dict[int, Tensor]
) -> Iterator[None]:
    """Keep the state after each depth that runs inside."""
    hooks = [
        layers[depth - 1].register_forward_hook(partial(_keep, states, depth)) for depth in depths
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _keep(
    states: dict[int, Tensor],
    depth: int,
    layer: nn.Module,
    inputs: object,
    output: Tensor | tuple[Tensor, ...],
) -> None:
    states[depth] = output[0] if isinstance(output, tuple) else output
