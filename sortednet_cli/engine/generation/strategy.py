"""The interface of a decoding strategy: an endless stream of tokens from a stack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from sortednet_cli.engine.generation.choice import Chooser
from sortednet_cli.engine.generation.stack import Stack
from sortednet_cli.engine.generation.statistics import DecodingStats


class Strategy(Protocol):
    """Generates the tokens after the first."""

    def tokens(
        self,
        stack: Stack,
        tokens: Sequence[int],
        chooser: Chooser,
        stats: DecodingStats,
        wanted: int,
    ) -> Iterator[int]:
        """Yield the tokens after `tokens` until the caller stops.

        Args:
            stack: the layers, which have all processed the prompt.
            tokens: the prompt and the first token after it, which has no position yet.
            wanted: most tokens that the caller takes; the stack has room for them.
        """
        ...
