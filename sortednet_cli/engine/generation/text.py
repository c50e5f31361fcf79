"""Tokens to text as they come: whole characters only, and nothing of a stop string."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PARTIAL = "�"
_CONTEXT = 8


class TextStream:
    """Pieces of text from a stream of tokens, cut at the first stop string.

    Attributes:
        stopped: whether a stop string ended it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self.stopped = False

    def pieces(self, tokens: Iterable[int]) -> Iterator[str]:
        """Yield text as soon as it is certain; the pieces joined are the whole."""
        held = ""
        for piece in self._decoded(tokens):
            held += piece
            found = [place for stop in self._stops if (place := held.find(stop)) >= 0]
            if found:
                self.stopped = True
                if min(found):
                    yield held[: min(found)]
                return
            safe = len(held) - self._overlap(held)
            if safe:
                yield held[:safe]
                held = held[safe:]
        if held:
            yield held

    def _decoded(self, tokens: Iterable[int]) -> Iterator[str]:
        """Decode a window of tokens again with each new one: a token may be part of a letter."""
        window: list[int] = []
        given = ""
        for token in tokens:
            window.append(token)
            text = self._text(window)
            if text.endswith(_PARTIAL):
                continue
            if len(text) > len(given):
                yield text[len(given) :]
            # Some tokens stay: a decoder may drop a space at the start of its text.
            window = window[-_CONTEXT:]
            given = self._text(window)
        rest = self._text(window)
        if len(rest) > len(given):
            yield rest[len(given) :]

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _overlap(self, text: str) -> int:
        """Length of the longest end of `text` that a stop string starts with."""
        longest = max(map(len, self._stops), default=0)
        for size in range(min(len(text), longest - 1), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0
