"""Prompt look-up: drafts are copied from where the text's last tokens stood before.

No layer drafts, so the only cost is that of verifying more positions in one pass
(https://github.com/apoorvumang/prompt-lookup-decoding).
"""

from __future__ import annotations

import torch

from sortednet_cli.engine.generation.choice import Chooser, Draft
from sortednet_cli.engine.generation.draft_length import DraftLength
from sortednet_cli.engine.generation.history import History
from sortednet_cli.engine.generation.speculative import Speculative
from sortednet_cli.engine.generation.stack import Stack
from sortednet_cli.engine.generation.statistics import DecodingStats


class LookUp(Speculative):
    """Drafts what followed the last occurrence of the text's last tokens, at most three of them.

    Args:
        length: decides how many tokens to draft.
    """

    def __init__(self, length: DraftLength) -> None:
        super().__init__(0, length)
        self.name = "look-up"

    def round(
        self, stack: Stack, history: History, chooser: Chooser, stats: DecodingStats
    ) -> list[int]:
        new = super().round(stack, history, chooser, stats)
        self.learn(history, new)
        return new

    def drafts(self, history: History) -> list[tuple[int, float]]:
        """Return the tokens to draft next, and the confidence in each."""
        self._length.begin()
        found, drafts = history.look_up(), list[tuple[int, float]]()
        if found is None:
            return drafts
        size, start = found
        while len(drafts) < history.room and self._length.wants_more(len(drafts)):
            confidence = _confidence(size + len(drafts))
            if not self._length.keep(len(drafts), confidence):
                break
            drafts.append((history.copied(start, len(drafts)), confidence))
        return drafts

    def learn(self, history: History, new: list[int]) -> None:
        """Compare the tokens after a text with those that it would have copied, drafted or not."""
        found = history.look_up()
        if found is None:
            return
        size, start = found
        for number, token in enumerate(new):
            accepted = history.copied(start, number) == token
            self._length.observe(_confidence(size + number), accepted)
            if not accepted:
                return

    def _observe(self, confidences: list[float], accepted: int) -> None:
        """Leave it to `learn`, which also sees what was not drafted."""

    def _draft(self, stack: Stack, history: History, chooser: Chooser) -> list[Draft]:
        drafts = self.drafts(history)
        stack.push([history.tokens[-1], *(token for token, _ in drafts)])
        return [Draft(torch.tensor(token), torch.tensor(share)) for token, share in drafts]


def _confidence(matched: int) -> float:
    """Expect that the next token agrees after `matched` did, by Laplace's rule of succession."""
    return (matched + 1) / (matched + 2)
