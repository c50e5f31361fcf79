"""One pass that serves every depth of a stock transformer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

from torch import Tensor, nn

from sortednet_cli.families.shared import Inputs, SharedPass
from sortednet_cli.families.transformers.architecture import Architecture, Tail
from sortednet_cli.families.transformers.causal_mask import without_mask


class PrefixPass(SharedPass):
    """Runs all layers of one stock transformer, and keeps the state at every exit.

    Args:
        module: the deepest sub-model's module.
        depths: numbers of layers of the sub-models; the first is the module's own.
        architecture: the layout of the module.
        tail: computes logits from states.
    """

    def __init__(
        self, module: nn.Module, depths: Sequence[int], architecture: Architecture, tail: Tail
    ) -> None:
        self.modules = [module]
        self._depths = depths
        self._architecture = architecture
        self._tail = tail

    def states(self, inputs: Inputs) -> list[Tensor]:
        (module,) = self.modules
        layers = cast(nn.ModuleList, module.get_submodule(self._architecture.layers))
        states: dict[int, Tensor] = {}
        hooks = [
            layers[depth - 1].register_forward_hook(partial(_keep, states, depth))
            for depth in self._depths
        ]
        try:
            base = module.get_submodule(self._architecture.base)
            with without_mask(base, cast(Mapping[str, Tensor], inputs)):
                base(**cast(Mapping[str, Tensor], inputs), use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        return [states[depth] for depth in self._depths]

    def logits(self, number: int, states: Tensor) -> Tensor:
        return cast(Tensor, self._tail(self.modules[0], states))


def _keep(
    states: dict[int, Tensor], depth: int, layer: nn.Module, inputs: object, output: Tensor
) -> None:
    states[depth] = output
