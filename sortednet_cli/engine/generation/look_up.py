"""Look-up: drafts are copied from where the text's last tokens stood before.

They stood in the prompt or the text itself (https://github.com/apoorvumang/prompt-lookup-decoding),
or in the training texts (REST, arXiv 2311.08252). No layer drafts, so the only cost is that of
verifying more positions in one pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sortednet_cli.engine.generation.choice import Chooser, Draft
from sortednet_cli.engine.generation.draft_length import AcceptanceEstimate, DraftLength
from sortednet_cli.engine.generation.history import History
from sortednet_cli.engine.generation.speculative import Speculative
from sortednet_cli.engine.generation.stack import Stack
from sortednet_cli.engine.generation.statistics import DecodingStats
from sortednet_cli.storage.phrases import LONGEST, Continuations


@dataclass(frozen=True)
class _Candidate:
    """A token that may come next.

    Attributes:
        token: the token.
        confidence: by what is known of its place alone, from 0 to 1.
        estimate: how often candidates of such confidence from the same source were right.
    """

    token: int
    confidence: float
    estimate: AcceptanceEstimate

    @property
    def probability(self) -> float:
        return self.estimate.probability(self.confidence)


class _Place:
    """The end of a text and of drafts after it.

    Args:
        history: the text.
        known: what follows phrases of the training texts.
        copies: how often tokens copied from the text are right.
        phrases: how often tokens after known phrases are right.
    """

    def __init__(
        self,
        history: History,
        known: Continuations,
        copies: AcceptanceEstimate,
        phrases: AcceptanceEstimate,
    ) -> None:
        self._history, self._known = history, known
        self._copies, self._phrases = copies, phrases
        self._last = history.tokens[-LONGEST:]
        self._copied = history.look_up()
        self._number = 0

    def candidates(self) -> list[_Candidate]:
        """List what may come next, by either source."""
        found = []
        if self._copied is not None:
            size, start = self._copied
            token = self._history.copied(start, self._number)
            found.append(_Candidate(token, _confidence(size + self._number), self._copies))
        if (after := self._known.after(self._last)) is not None:
            found.append(_Candidate(*after, self._phrases))
        return found

    def append(self, token: int) -> None:
        """Go on after one more token; a copy ends where it differs."""
        if self._copied is not None:
            same = self._history.copied(self._copied[1], self._number) == token
            self._copied = self._copied if same else None
        self._number += 1
        self._last = [*self._last[1 - LONGEST :], token]


class LookUp(Speculative):
    """Drafts what followed the text's last tokens before, in the text or in the training texts.

    Of the text the last occurrence of the last tokens counts, at most eight of them. Each draft is
    that of the two candidates which is more often right.

    Args:
        length: decides how many tokens to draft.
        known: what follows phrases of the training texts.
    """

    def __init__(self, length: DraftLength, known: Continuations | None = None) -> None:
        super().__init__(0, length)
        self.name = "look-up"
        self._known = known or Continuations()
        self._copies, self._phrases = AcceptanceEstimate(), AcceptanceEstimate()

    def round(
        self, stack: Stack, history: History, chooser: Chooser, stats: DecodingStats
    ) -> list[int]:
        new = super().round(stack, history, chooser, stats)
        self.learn(history, new)
        return new

    def drafts(self, history: History) -> list[tuple[int, float]]:
        """Return the tokens to draft next, and the probability of each."""
        self._length.begin()
        place, drafts = self._place(history), list[tuple[int, float]]()
        while len(drafts) < history.room and self._length.wants_more(len(drafts)):
            best = _likeliest(place.candidates())
            if best is None or not self._length.keep(len(drafts), best.probability):
                break
            drafts.append((best.token, best.probability))
            place.append(best.token)
        return drafts

    def learn(self, history: History, new: list[int]) -> None:
        """Compare the tokens after a text with those that it would have copied, drafted or not."""
        place = self._place(history)
        for token in new:
            candidates = place.candidates()
            best = _likeliest(candidates)
            if best is None:
                return
            self._length.observe(best.probability, best.token == token)
            for candidate in candidates:
                candidate.estimate.observe(candidate.confidence, candidate.token == token)
            if best.token != token:
                return
            place.append(token)

    def _place(self, history: History) -> _Place:
        return _Place(history, self._known, self._copies, self._phrases)

    def _observe(self, confidences: list[float], accepted: int) -> None:
        """Leave it to `learn`, which also sees what was not drafted."""

    def _draft(self, stack: Stack, history: History, chooser: Chooser) -> list[Draft]:
        drafts = self.drafts(history)
        stack.push([history.tokens[-1], *(token for token, _ in drafts)])
        return [Draft(torch.tensor(token), torch.tensor(share)) for token, share in drafts]


def _likeliest(candidates: list[_Candidate]) -> _Candidate | None:
    """Return the candidate that is most often right."""
    return max(candidates, key=lambda candidate: candidate.probability, default=None)


def _confidence(matched: int) -> float:
    """Expect that the next token agrees after `matched` did, by Laplace's rule of succession."""
    return (matched + 1) / (matched + 2)
