"""Streams of text from tokens: complete characters only, up to a stop string."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PARTIAL = "�"
_CONTEXT = 8


class TextStream:
    """Decodes a stream of tokens piece by piece, up to the first stop string.

    Attributes:
        stopped: whether a stop string ended the text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self.stopped = False

    def pieces(self, tokens: Iterable[int]) -> Iterator[str]:
        """Yield text as soon as later tokens cannot change it; joined, the pieces are the text."""
        pending = ""
        for piece in self._decoded(tokens):
            pending += piece
            stops = [start for stop in self._stops if (start := pending.find(stop)) >= 0]
            if stops:
                self.stopped = True
                if min(stops):
                    yield pending[: min(stops)]
                return
            safe = len(pending) - self._overlap(pending)
            if safe:
                yield pending[:safe]
                pending = pending[safe:]
        if pending:
            yield pending

    def _decoded(self, tokens: Iterable[int]) -> Iterator[str]:
        """Decode a window of recent tokens with each new one, which may be part of a character.

        This takes 15 microseconds per token, `tokenizers.DecodeStream` takes 1, and the model some
        thousands. `DecodeStream` is not used because it does not support tokenizers written in
        Python, and drops an incomplete character at the end, which `decode` shows.
        """
        window: list[int] = []
        emitted = ""
        for token in tokens:
            window.append(token)
            text = self._text(window)
            if text.endswith(_PARTIAL):
                continue
            if len(text) > len(emitted):
                yield text[len(emitted) :]
            # Keep some tokens: a decoder may drop the space at the start of its text.
            window = window[-_CONTEXT:]
            emitted = self._text(window)
        text = self._text(window)
        if len(text) > len(emitted):
            yield text[len(emitted) :]

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _overlap(self, text: str) -> int:
        """Return the length of the longest suffix of `text` that begins a stop string."""
        longest = max(map(len, self._stops), default=0)
        for size in range(min(len(text), longest - 1), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0
