"""Counts and times of decoding."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class DecodingStats:
    """Counts over any number of prompts.

    Attributes:
        prompt_tokens: tokens of the prompts.
        tokens: tokens generated.
        seconds: time for prompts and generation, without the time that the caller took.
        passes: passes of the deepest layer after the prompts.
        drafted: drafted tokens.
        checked: drafts that were compared; those after a rejected draft are not.
        accepted: drafts that were kept.
        recomputed: positions recomputed singly, because a joint pass left the two best tokens too
            close.
        replayed: sequences recomputed from their prompt, because they were still too close then.
        changed: recomputed positions that got another token than in the joint pass.
        rounds: number of rounds of speculative decoding by what drafted: "look-up", "depth D", or
            "none".
        exits: number of tokens by the depth of their logits.
    """

    prompt_tokens: int = 0
    tokens: int = 0
    seconds: float = 0.0
    passes: int = 0
    drafted: int = 0
    checked: int = 0
    accepted: int = 0
    recomputed: int = 0
    replayed: int = 0
    changed: int = 0
    rounds: Counter[str] = field(default_factory=Counter)
    exits: Counter[int] = field(default_factory=Counter)

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def acceptance(self) -> float | None:
        """The fraction of compared drafts that were kept."""
        return self.accepted / self.checked if self.checked else None

    def record(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        record: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "tokens_per_second": self.tokens_per_second,
            "passes": self.passes,
            "tokens_per_pass": self.tokens / self.passes if self.passes else None,
        }
        if self.drafted:
            record |= {
                "drafted": self.drafted,
                "checked": self.checked,
                "accepted": self.accepted,
                "acceptance": self.acceptance,
                "recomputed": self.recomputed,
                "replayed": self.replayed,
                "changed": self.changed,
            }
        if self.rounds:
            record["rounds"] = dict(sorted(self.rounds.items()))
        if self.exits:
            record["exits"] = {str(depth): self.exits[depth] for depth in sorted(self.exits)}
        return record
