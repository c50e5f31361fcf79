"""Completion of prompts with a decoder, and the tokenizer and prompt format of its source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from sortednet_cli.engine.generation import (
    Completion,
    Decoder,
    DecodingStats,
    EarlyExit,
    Plain,
    Strategy,
)
from sortednet_cli.engine.generation.causal import make_decoder
from sortednet_cli.engine.generation.choice import make_chooser
from sortednet_cli.engine.generation.prompts import Prompts
from sortednet_cli.engine.generation.text import TextStream
from sortednet_cli.engine.requests import SamplingOptions
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.errors import RequestError
from sortednet_cli.machine.cuda_graphs import GraphChoice
from sortednet_cli.space import SubModel
from sortednet_cli.storage.exit_thresholds import require_thresholds


@dataclass
class Answer:
    """The text generated after one prompt, which is complete once its pieces are read.

    Attributes:
        prompt: the prompt.
        text: the text generated so far.
        tokens: number of generated tokens.
        finish: why the text ended: `stop` for a stop text, else as `Completion.finish`.
    """

    prompt: str
    text: str = ""
    tokens: int = 0
    finish: str = ""

    def record(self) -> dict[str, Any]:
        """Return the JSON of the answer."""
        return {
            "prompt": self.prompt,
            "text": self.text,
            "tokens": self.tokens,
            "finish": self.finish,
        }


@dataclass
class Generator:
    """Completes prompts with one sub-model.

    A prompt becomes what a question became in training. `chat` makes it a user's turn in the
    tokenizer's chat template; None does so if the model was trained with that template.
    """

    source: Source
    submodel: SubModel
    device: torch.device
    precision: str = "fp32"
    cuda_graphs: GraphChoice = "auto"
    chat: bool | None = None
    compiles: bool = False
    stats: DecodingStats = field(default_factory=DecodingStats)

    def __post_init__(self) -> None:
        self._prompts = Prompts(self.source, self.chat)
        self.decoder: Decoder = make_decoder(
            self.source,
            self.submodel,
            self.device,
            self.precision,
            self.cuda_graphs,
            self._prompts.end,
            compiles=self.compiles,
        )

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Tokenize prompts; RequestError names the number of one that is empty or too long."""
        encoded = []
        for number, prompt in enumerate(prompts, 1):
            try:
                encoded.append(self._prompts.encode(prompt, self.decoder.context))
            except RequestError as error:
                where = f"prompt {number}: " if len(prompts) > 1 else ""
                raise RequestError(f"{where}{error}") from error
        return encoded

    def strategy(
        self, mode: str, draft_depth: int | None = None, draft_length: int | None = None
    ) -> Strategy:
        """Return the strategy of a mode; RequestError if the model does not support it."""
        if mode == "speculative":
            return self.decoder.speculative(draft_depth, draft_length)
        if mode == "early-exit":
            exits = require_thresholds(self.source.path, self.submodel).exits
            return EarlyExit({depth: stored.threshold for depth, stored in exits.items()})
        return Plain()

    def answers(
        self,
        prompts: Sequence[str],
        encoded: Sequence[Sequence[int]],
        strategy: Strategy,
        max_new_tokens: int,
        options: SamplingOptions | None = None,
        stops: Sequence[str] = (),
    ) -> Iterator[tuple[Answer, Iterator[str]]]:
        """Yield each prompt's answer and the pieces of its text; read them in turn."""
        for number, (prompt, tokens) in enumerate(zip(prompts, encoded, strict=True)):
            answer, completion = Answer(prompt), Completion()
            stream = self.decoder.stream(
                tokens,
                strategy,
                max_new_tokens,
                chooser=make_chooser(options, number, self.decoder.dtype),
                stats=self.stats,
                completion=completion,
            )
            texts = TextStream(self._prompts.tokenizer, stops)
            yield answer, _read(answer, texts, stream, completion)


def _read(
    answer: Answer, texts: TextStream, stream: Iterator[int], completion: Completion
) -> Iterator[str]:
    """Yield the pieces of a text, and fill in `answer`."""
    for piece in texts.pieces(stream):
        answer.text += piece
        yield piece
    answer.tokens = len(completion.tokens)
    answer.finish = "stop" if texts.stopped else completion.finish
