"""The decoder: runs a decoding strategy over a causal model and its key-value cache."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from sortednet_cli.engine.generation.automatic import Automatic
from sortednet_cli.engine.generation.choice import Chooser, Greedy
from sortednet_cli.engine.generation.draft_length import Adaptive, Fixed
from sortednet_cli.engine.generation.look_up import LookUp
from sortednet_cli.engine.generation.models import open_model
from sortednet_cli.engine.generation.speculative import Speculative
from sortednet_cli.engine.generation.stack import Stack, round_capacity
from sortednet_cli.engine.generation.statistics import DecodingStats
from sortednet_cli.engine.generation.strategy import Strategy
from sortednet_cli.engine.generation.timings import TIMED_POSITIONS, LayerTimings
from sortednet_cli.errors import PromptTooLong, RequestError, listed
from sortednet_cli.extensions import ARCHITECTURES
from sortednet_cli.machine.cuda_graphs import GraphChoice
from sortednet_cli.spec.families import own_families
from sortednet_cli.storage.phrases import Continuations

_CHECKED = 6
"""Tokens of the check of another package's architecture."""

Finish = Literal["end", "length", "context"]


@dataclass
class Completion:
    """The tokens generated after a prompt; filled while they are read.

    Attributes:
        tokens: the tokens so far, without an end token.
        finish: why they ended: `end` for an end token, `length` for the wanted number of tokens,
            `context` for a full context.
    """

    tokens: list[int] = field(default_factory=list)
    finish: Finish = "length"


class Decoder:
    """Generates tokens with a stock causal model, one sequence at a time.

    Args:
        module: a stock decoder of a declared architecture, or a sub-model of one.
        exits: trained depths; those below the module's own depth can draft.
        end: tokens that end a text.
        cuda_graphs: whether passes are recorded as CUDA graphs; "auto" where that can be done.
        frequent: the tokens that drafts choose from, which changes no text; none for all.
        known: what follows phrases of the training texts, for drafts that are looked up.
        compiles: whether passes of one position are compiled.

    Attributes:
        depth: number of layers.
        context: number of positions that the model has.
        exits: the depths that can draft, ascending.
        dtype: dtype of the weights.

    Raises:
        RequestError: the module is no such model, or another package declares its architecture
            with logits that differ from the module's; or `cuda_graphs` is true on a device without
            them, or nothing compiles the model.
        WorkError: the compiler fails.
    """

    def __init__(
        self,
        module: nn.Module,
        exits: Collection[int] = (),
        end: Collection[int] = (),
        cuda_graphs: GraphChoice = "auto",
        frequent: Sequence[int] = (),
        known: Continuations | None = None,
        *,
        compiles: bool = False,
    ) -> None:
        self._model = open_model(module, compiles=compiles)
        self._options: tuple[GraphChoice, Sequence[int]] = (cuda_graphs, frequent)
        self._stack = self._new_stack(1)
        self.depth, self.context = self._stack.depth, self._stack.context
        self.exits = sorted(depth for depth in exits if 0 < depth < self.depth)
        self.dtype = next(module.parameters()).dtype
        self._end = frozenset(end)
        self._known = known or Continuations()
        if module.config.model_type not in own_families():  # type: ignore[union-attr, operator]
            self._check_logits(module)
        if compiles:
            self._compile()
        self._timings: LayerTimings | None = None

    @property
    def timings(self) -> LayerTimings:
        """Times of layers and head on this device, measured at the first use."""
        if self._timings is None:
            with torch.inference_mode():
                stack = self._empty_stack(min(self.context, TIMED_POSITIONS))
                self._timings = LayerTimings.measure(stack)
        return self._timings

    def speculative(
        self, depth: int | None = None, length: int | None = None
    ) -> Speculative | Automatic:
        """Make a strategy that drafts tokens and verifies them together.

        Args:
            depth: number of first layers that draft; 0 copies drafts from where the text's last
                tokens stood before, there or in the training texts; None looks up where that pays,
                and finds the best depth.
            length: tokens to draft before each check; None adapts to the drafts' confidence.

        Raises:
            RequestError: the depth was not trained, or a length is given without a depth.
        """
        if depth is None:
            if length is not None:
                raise RequestError("a fixed draft length needs a draft depth")
            return Automatic(self.timings, self.exits, self.depth, self._known)
        if depth and not self.exits:
            raise RequestError(
                f"no exit below depth {self.depth} was trained, so no layers can draft: draft depth"
                " 0 looks drafts up"
            )
        if depth and depth not in self.exits:
            raise RequestError(
                f"draft depth {depth} was not trained; the trained depths below {self.depth} are"
                f" {listed(map(str, self.exits))}, and 0 looks drafts up"
            )
        drafted = Adaptive(self.timings, depth, self.depth) if length is None else Fixed(length)
        return Speculative(depth, drafted) if depth else LookUp(drafted, self._known)

    def check_prompt(self, prompt: Sequence[int]) -> None:
        """RequestError if a prompt is empty, or leaves no room for another token."""
        check_prompt(prompt, self.context)

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
        """Yield tokens after `prompt` as they are generated; an end token is not yielded.

        Args:
            chooser: picks tokens; greedy by default.
            stats: receives the counts, and the time without what the caller takes.
            completion: receives the tokens and why they ended.

        Raises:
            RequestError: the prompt is empty or too long, `max_new_tokens` is below 1, or passes
                cannot be recorded and `cuda_graphs` is true.
        """
        self.check_prompt(prompt)
        if max_new_tokens < 1:
            raise RequestError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
        chooser, stats = chooser or Greedy(self.dtype), stats or DecodingStats()
        completion = completion or Completion()
        room = self.context - len(prompt)
        wanted = min(max_new_tokens, room)
        completion.finish = "length" if max_new_tokens <= room else "context"
        stats.prompt_tokens += len(prompt)
        tokens = self._tokens(prompt, strategy, chooser, stats, wanted)
        for token in _timed(tokens, wanted, stats):
            if token in self._end:
                completion.finish = "end"
                return
            stats.tokens += 1
            completion.tokens.append(token)
            yield token

    def _tokens(
        self,
        prompt: Sequence[int],
        strategy: Strategy,
        chooser: Chooser,
        stats: DecodingStats,
        wanted: int,
    ) -> Iterator[int]:
        """Yield the tokens after a prompt; the caller takes at most `wanted`."""
        stack = self._empty_stack(len(prompt) + wanted)
        stack.push(prompt)
        stack.advance(stack.depth)
        token = chooser.pick(stack.logits(1)[0], stack.length)
        yield token
        yield from strategy.tokens(stack, [*prompt, token], chooser, stats, wanted - 1)

    @torch.inference_mode()
    def _check_logits(self, module: nn.Module) -> None:
        """RequestError if layers, embedding or tail are not used as the stock module does."""
        count = min(self.context, _CHECKED)
        tokens = list(range(count))
        stack = self._empty_stack(count)
        stack.push(tokens)
        stack.advance(self.depth)
        found = stack.logits(count)
        ids = torch.tensor([tokens], device=found.device)
        wanted = module(input_ids=ids).logits[0].float()
        scale = float(wanted.abs().max())
        if not torch.allclose(found, wanted, rtol=1e-2, atol=1e-2 * scale):
            raise RequestError(
                f"{ARCHITECTURES}: {module.config.model_type!r} declares an embedding, a tail"  # type: ignore[union-attr]
                " or layers whose logits differ from its class's: extract the sub-model, and call"
                " transformers' own generate()"
            )

    def _empty_stack(self, length: int) -> Stack:
        """Return the emptied stack, with room for `length` positions."""
        if self._stack.capacity < length:
            self._stack = self._new_stack(min(self.context, round_capacity(length)))
        self._stack.truncate(0)
        return self._stack

    @torch.inference_mode()
    def _compile(self) -> None:
        """Compile what any mode runs now, before a text begins."""
        stack = self._empty_stack(2)
        stack.push([0])
        stack.advance(stack.depth)
        for depths in ((stack.depth,), (*self.exits, stack.depth)):
            stack.truncate(1)
            stack.push([0])
            for depth in depths:
                stack.advance(depth)
        stack.logits(1)

    @torch.inference_mode()
    def _new_stack(self, capacity: int) -> Stack:
        # In inference mode always, since its tensors then compile alike.
        return Stack(self._model, capacity, *self._options)


def check_prompt(prompt: Sequence[int], context: int) -> None:
    """RequestError if a prompt is empty, or leaves no room for another token in the context."""
    if not prompt:
        raise RequestError("the prompt is empty")
    if len(prompt) >= context:
        over = len(prompt) - context + 1
        raise PromptTooLong(
            f"the prompt has {len(prompt)} tokens, {over} more than the {context - 1}"
            " that fit into the model's context"
        )


def _timed(tokens: Iterator[int], count: int, stats: DecodingStats) -> Iterator[int]:
    """Yield `count` tokens in inference mode, and add the time that they take to `stats`."""
    for _ in range(count):
        start = time.perf_counter()
        # Left before each yield, because the mode applies to the whole thread and so to the caller.
        with torch.inference_mode():
            token = next(tokens)
        stats.seconds += time.perf_counter() - start
        yield token
