"""Plain decoding of one text at a time, which decides between tokens that are nearly equal."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sortednet_cli.engine.generation.stack import Stack, round_capacity
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.space import SubModel


class Reference:
    """Computes logits exactly as `generate` does: the prompt in one pass, then token by token.

    It keeps the text of its last call, and goes on from there. Its layers hold copies of some
    weights of one sub-model, so it exists only while it is needed.
    """

    def __init__(self, network: NestedNetwork) -> None:
        self._network = network
        self.release()

    def release(self) -> None:
        """Give the memory back."""
        self._stack: Stack | None = None
        self._submodel: SubModel | None = None
        self._prompt: list[int] = []
        self._fed: list[int] = []

    @torch.inference_mode()
    def logits(self, submodel: SubModel, prompt: list[int], tokens: list[int]) -> Tensor:
        """Compute the logits [V] of the token after a prompt and the tokens generated so far."""
        try:
            return self._computed(submodel, prompt, tokens)
        except Exception:
            self.release()  # the text that it keeps may be half of another one
            raise

    def _computed(self, submodel: SubModel, prompt: list[int], tokens: list[int]) -> Tensor:
        stack, length = self._stack, len(prompt) + len(tokens)
        if stack is None or self._submodel != submodel or stack.capacity < length:
            # Twice as many positions as now: a new stack computes the text again.
            rounded = round_capacity(2 * length)
            self.release()
            module: Any = self._network.at(submodel)
            context = int(module.config.max_position_embeddings)
            self._stack = stack = Stack(module, min(context, rounded), cuda_graphs=False)
            self._submodel = submodel
        if prompt != self._prompt or self._fed != tokens[: len(self._fed)]:
            stack.truncate(0)
            stack.push(prompt)
            stack.advance(stack.depth)
            self._prompt, self._fed = list(prompt), []
        for token in tokens[len(self._fed) :]:
            stack.push([token])
            stack.advance(stack.depth)
            self._fed.append(token)
        return stack.logits(1)[0]
