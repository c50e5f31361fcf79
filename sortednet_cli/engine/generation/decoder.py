"""The decoder: a causal model, its cache, and a strategy for the tokens after the first."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from sortednet_cli.engine.generation.automatic import Automatic
from sortednet_cli.engine.generation.choice import Chooser, Greedy
from sortednet_cli.engine.generation.speculative import Adaptive, Fixed, Speculative
from sortednet_cli.engine.generation.stack import Stack
from sortednet_cli.engine.generation.statistics import DecodingStats
from sortednet_cli.engine.generation.strategy import Strategy
from sortednet_cli.engine.generation.timings import LayerTimings
from sortednet_cli.errors import RequestError, listed

_ROUND = 64

Finish = Literal["end", "length", "context"]


@dataclass
class Completion:
    """What came after a prompt; filled while it is read.

    `finish`: the model ended the text, the wanted length was reached, or its context was full.
    """

    tokens: list[int] = field(default_factory=list)
    finish: Finish = "length"


class Decoder:
    """Generates tokens with a stock causal model, one sequence at a time.

    Args:
        module: LLaMA, Qwen2 or Mistral as transformers builds it, or a sub-model's module.
        exits: depths that were trained to end at; those below the module's own can draft.
        end: tokens that end a text.

    Raises:
        RequestError: the module is no such model.
    """

    def __init__(
        self, module: nn.Module, exits: Collection[int] = (), end: Collection[int] = ()
    ) -> None:
        self._module = module
        self._stack = Stack(module, 1)
        self.depth, self.context = self._stack.depth, self._stack.context
        self.exits = sorted(depth for depth in exits if 0 < depth < self.depth)
        self.dtype = next(module.parameters()).dtype
        self._end = frozenset(end)
        self._pace: LayerTimings | None = None

    @property
    def timings(self) -> LayerTimings:
        """Measured times of layers and head; measured once."""
        if self._pace is None:
            with torch.inference_mode():
                self._pace = LayerTimings.measure(self._empty(min(self.context, 2 * _ROUND)))
        return self._pace

    def speculative(
        self, depth: int | None = None, length: int | None = None
    ) -> Speculative | Automatic:
        """Draft with the first `depth` layers; None finds the best by itself.

        Args:
            length: tokens to draft before each check; None adapts to their confidence.

        Raises:
            RequestError: the depth was not trained, or there is none to choose from.
        """
        if not self.exits:
            raise RequestError(f"no trained exit lies below depth {self.depth}: nothing can draft")
        if depth is None:
            if length is not None:
                raise RequestError("a fixed draft length needs a draft depth")
            return Automatic(self.timings, self.exits, self.depth)
        if depth not in self.exits:
            raise RequestError(
                f"draft depth {depth} is not trained; below {self.depth} there are"
                f" {listed(map(str, self.exits))}"
            )
        if length is None:
            return Speculative(depth, Adaptive(self.timings, depth, self.depth))
        return Speculative(depth, Fixed(length))

    def check_prompt(self, prompt: Sequence[int]) -> None:
        """RequestError unless a prompt has tokens and leaves room for one more."""
        if not prompt:
            raise RequestError("the prompt is empty")
        if len(prompt) >= self.context:
            over = len(prompt) - self.context + 1
            raise RequestError(
                f"the prompt has {len(prompt)} tokens, {over} more than the {self.context - 1}"
                " that the model's context leaves for it"
            )

    def stream(
        self,
        prompt: Sequence[int],
        strategy: Strategy,
        max_new_tokens: int,
        *,
        chooser: Chooser | None = None,
        stats: DecodingStats | None = None,
        completion: Completion | None = None,
    ) -> Iterator[int]:
        """Yield tokens after `prompt` as they come; an end token ends the text unyielded.

        Args:
            chooser: picks tokens; the best one each time unless given.
            stats: counts; time stands still while the caller has a token.
            completion: is filled with the same tokens and why they ended.

        Raises:
            RequestError: the prompt is empty or too long, or `max_new_tokens` below 1.
        """
        self.check_prompt(prompt)
        if max_new_tokens < 1:
            raise RequestError(f"max_new_tokens is at least 1, not {max_new_tokens}")
        chooser, stats = chooser or Greedy(self.dtype), stats or DecodingStats()
        done = completion or Completion()
        room = self.context - len(prompt)
        wanted = min(max_new_tokens, room)
        done.finish = "length" if max_new_tokens <= room else "context"
        stats.prompt_tokens += len(prompt)
        tokens = self._tokens(prompt, strategy, chooser, stats, wanted)
        for _ in range(wanted):
            start = time.perf_counter()
            # Not held across a yield: the mode is the thread's, and the caller's again.
            with torch.inference_mode():
                token = next(tokens)
            stats.seconds += time.perf_counter() - start
            if token in self._end:
                done.finish = "end"
                return
            stats.tokens += 1
            done.tokens.append(token)
            yield token

    def _tokens(
        self,
        prompt: Sequence[int],
        strategy: Strategy,
        chooser: Chooser,
        stats: DecodingStats,
        wanted: int,
    ) -> Iterator[int]:
        stack = self._empty(len(prompt) + wanted)
        stack.push(prompt)
        stack.advance(stack.depth)
        token = chooser.pick(stack.logits(1)[0], stack.length)
        yield token
        yield from strategy.tokens(stack, token, chooser, stats, wanted - 1)

    def _empty(self, length: int) -> Stack:
        """The stack without positions, with room for `length` of them."""
        if self._stack.capacity < length:
            rounded = -(-length // _ROUND) * _ROUND
            self._stack = Stack(self._module, min(self.context, rounded))
        self._stack.truncate(0)
        return self._stack
