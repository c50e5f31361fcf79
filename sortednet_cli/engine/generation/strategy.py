"""What a strategy is: an endless stream of tokens from a stack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from sortednet_cli.engine.generation.choice import Chooser
from sortednet_cli.engine.generation.stack import Stack
from sortednet_cli.engine.generation.statistics import DecodingStats


class Strategy(Protocol):
    """How tokens after the first come about."""

    def tokens(
        self, stack: Stack, token: int, chooser: Chooser, stats: DecodingStats, wanted: int
    ) -> Iterator[int]:
        """Yield the tokens after `token`, which has no position yet, until closed.

        Args:
            stack: every layer has seen all its positions.
            wanted: how many tokens will be taken at most; the stack has room for them.
        """
        ...
