"""Streams of text from tokens: complete characters only, up to a stop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PARTIAL = "�"
_CONTEXT = 8
_MOST_BYTES = 4
"""Of a character in UTF-8."""

_MOST_HELD = 2 * _MOST_BYTES
"""Most tokens that wait for the rest of a character; more are no character."""


class TextStream:
    """Decodes a stream of tokens piece by piece, up to the first stop string.

    Special tokens have no text, so a stop string that is the name of one is that token.

    Attributes:
        stopped: whether a stop ended the text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._stop_tokens = _special(tokenizer, stops) if stops else set()
        self._window: list[int] = []
        self._held = 0
        self._emitted = ""
        self._pending = ""
        self.stopped = False

    def pieces(self, tokens: Iterable[int]) -> Iterator[str]:
        """Yield text as soon as later tokens cannot change it; joined, the pieces are the text."""
        for token in tokens:
            if piece := self.push(token):
                yield piece
            if self.stopped:
                return
        if piece := self.end():
            yield piece

    def push(self, token: int) -> str:
        """Take a token; return the text, perhaps none, that no later token can change.

        The token may be part of a character, so a window of recent tokens is decoded with it. This
        takes 15 microseconds, `tokenizers.DecodeStream` takes 1, and the model some thousands.
        `DecodeStream` is not used because it does not support tokenizers written in Python, and
        drops an incomplete character at the end, which `decode` shows.
        """
        if token in self._stop_tokens:
            rest, self.stopped = self.end(), True
            return rest
        self._window.append(token)
        text = self._text(self._window)
        if text.endswith(_PARTIAL):
            self._held += 1
            return self._release() if self._held > _MOST_HELD else ""
        new, self._held = text[len(self._emitted) :], 0
        self._shorten(text)
        return self._until_stop(new)

    def _release(self) -> str:
        """Give up on held tokens, but not on the last ones, which may begin a character."""
        kept = _MOST_BYTES - 1
        new = self._text(self._window[:-kept])[len(self._emitted) :]
        # Before them stays enough that what was sent ends the same way without the rest.
        self._window, self._held = self._window[-2 * _MOST_BYTES :], kept
        self._emitted = self._text(self._window[:-kept])
        return self._until_stop(new)

    def _shorten(self, text: str) -> None:
        """Keep some tokens of the window: a decoder may drop the space at the start of its text.

        No cut is inside a character: a decoder may show a whole run of bytes as wrong for it.
        """
        self._emitted = text
        for count in range(_CONTEXT, _CONTEXT + _MOST_HELD + 2):
            recent = self._window[-count:]
            if not (end := self._text(recent)).startswith(_PARTIAL):
                self._window, self._emitted = recent, end
                return

    def end(self) -> str:
        """Return the rest of the text after the last token."""
        piece = self._until_stop(self._text(self._window)[len(self._emitted) :])
        return piece if self.stopped else piece + self._pending

    def _until_stop(self, new: str) -> str:
        """Add decoded text; return what no stop string can reach into."""
        pending = self._pending + new
        if stops := [start for stop in self._stops if (start := pending.find(stop)) >= 0]:
            self.stopped, self._pending = True, ""
            return pending[: min(stops)]
        safe = len(pending) - self._overlap(pending)
        self._pending = pending[safe:]
        return pending[:safe]

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _overlap(self, text: str) -> int:
        """Return the length of the longest suffix of `text` that begins a stop string."""
        longest = max(map(len, self._stops), default=0)
        for size in range(min(len(text), longest - 1), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0


def _special(tokenizer: PreTrainedTokenizerBase, names: Sequence[str]) -> set[int]:
    """Return the special tokens of some names."""
    added = tokenizer.added_tokens_decoder.items()
    return {token for token, entry in added if entry.special and entry.content in names}
