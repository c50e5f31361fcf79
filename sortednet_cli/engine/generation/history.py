"""The tokens of a text so far, and where its last n-grams stood before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_LONGEST = 8
"""Most tokens of an n-gram that is looked up."""


class History:
    """A prompt and the tokens generated after it; the last has no position in the stack yet.

    Args:
        tokens: the prompt and the first token after it.
        wanted: most tokens that the caller takes after these.

    Attributes:
        tokens: all tokens so far.
        prompt: number of tokens of the prompt.
    """

    def __init__(self, tokens: Sequence[int], wanted: int) -> None:
        self.prompt = len(tokens) - 1
        self.tokens: list[int] = []
        self._last = len(tokens) + wanted
        self._after: dict[tuple[int, ...], int] = {}
        self.extend(tokens)

    @property
    def room(self) -> int:
        """Most drafts worth verifying: a round adds one token of its own to those it accepts."""
        return self._last - len(self.tokens) - 1

    def extend(self, tokens: Iterable[int]) -> None:
        """Append tokens."""
        for token in tokens:
            for size in range(1, _LONGEST + 1):
                self._after[tuple(self.tokens[-size:])] = len(self.tokens)
            self.tokens.append(token)

    def look_up(self) -> tuple[int, int] | None:
        """Find the last earlier occurrence of the longest n-gram, up to 8, that ends the text.

        Returns:
            The n-gram's length, and where the tokens after that occurrence start.
        """
        for size in range(min(_LONGEST, len(self.tokens)), 0, -1):
            start = self._after.get(tuple(self.tokens[-size:]))
            if start is not None:
                return size, start
        return None

    def copied(self, start: int, number: int) -> int:
        """Return token `number` of a copy of the text from `start` on, which may copy itself."""
        return self.tokens[start + number % (len(self.tokens) - start)]
