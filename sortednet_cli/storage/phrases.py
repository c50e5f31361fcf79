"""Phrases of the training texts and what follows them: one small file beside the tokenizer."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from sortednet_cli.errors import RequestError
from sortednet_cli.storage.artifact import PHRASES
from sortednet_cli.storage.tensor_writer import write_tensors
from sortednet_cli.storage.tensors import read_tensors

LONGEST = 8
"""Most tokens of a phrase."""


@dataclass(frozen=True)
class Phrases:
    """Phrases, and the token that most often follows each.

    Attributes:
        phrases: int64 [E, LONGEST]; shorter ones have -1 in front.
        tokens: the token that follows, int64 [E].
        shares: how often it does, of all times that the phrase stood in the texts, [E].
    """

    phrases: Tensor
    tokens: Tensor
    shares: Tensor

    def __len__(self) -> int:
        return len(self.tokens)


_NONE = Phrases(torch.empty(0, 1), torch.empty(0), torch.empty(0))


class Continuations:
    """Says what most often follows the end of a text."""

    def __init__(self, phrases: Phrases | None = None) -> None:
        self._phrases = phrases or _NONE

    @cached_property
    def _numbers(self) -> dict[bytes, int]:
        """By phrase; made when the first draft is looked up."""
        tokens = self._phrases.phrases
        raw, size = _raw(tokens.flatten().tolist()), tokens.shape[1] * array("i").itemsize
        return {raw[start : start + size]: n for n, start in enumerate(range(0, len(raw), size))}

    def after(self, tokens: Sequence[int]) -> tuple[int, float] | None:
        """Return the token after the longest known phrase that ends a text, and its share."""
        longest = self._phrases.phrases.shape[1]
        for size in range(min(longest, len(tokens)), 0, -1):
            phrase = [*[-1] * (longest - size), *tokens[-size:]]
            if (number := self._numbers.get(_raw(phrase))) is not None:
                return int(self._phrases.tokens[number]), float(self._phrases.shares[number])
        return None


def _raw(tokens: Sequence[int]) -> bytes:
    """Return tokens as bytes, from which a table of phrases is made four times as fast."""
    return array("i", tokens).tobytes()


def write_phrases(folder: Path, phrases: Phrases) -> None:
    """Write the file."""
    write_tensors(
        folder / PHRASES,
        {
            "phrases": phrases.phrases.to(torch.int32),
            "tokens": phrases.tokens.to(torch.int32),
            "shares": phrases.shares.to(torch.float32),
        },
    )


def read_phrases(folder: Path, vocab_size: int) -> Phrases | None:
    """Read the file; None if it does not exist.

    Raises:
        RequestError: the file is damaged, or names a token beyond the model's vocabulary.
    """
    file = folder / PHRASES
    if not file.is_file():
        return None
    found = read_tensors(file)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    size = shapes.get("phrases", ())
    wanted = {"phrases": size, "tokens": size[:1], "shares": size[:1]}
    if len(size) != 2 or 0 in size or shapes != wanted or int(found["tokens"].min()) < 0:
        raise RequestError(f"{file} is damaged: it does not hold phrases, tokens and shares")
    if any(int(found[name].max()) >= vocab_size for name in ("phrases", "tokens")):
        raise RequestError(f"{file} names a token that the model does not have")
    return Phrases(found["phrases"], found["tokens"], found["shares"])
